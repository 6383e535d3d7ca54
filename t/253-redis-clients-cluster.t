# Clients in a cluster of real Redis processes, whose identities are on another
# node: made, changed and dropped by the tool, also by one that dies halfway.

use strict;
use warnings;

use lib 't/lib';
use Digest::SHA 'sha256_hex';
use HybridRedis;
use HybridRedisGroup;
use Test::More;

if (`redis-server --version` !~ /v=(\d+)/ || $1 < 4) {
    plan(skip_all => 'needs redis-server 4 or later');
}

my $root = $ENV{HYBRID_ROOT} || '.';
my $set = cluster(masters => 3);
my $index = 'hybrid:identities';

# one on each node; the tool does it at once where both keys are on one
my %name;
for my $name (map { ("amy$_") } 1 .. 60) {
    my $owner = $set->owner("hybrid:client:{$name}");
    $name{ $owner->{name} } //= $name;
}
my $home = delete $name{ $set->owner($index)->{name} };
my ($amy, $ben) = sort values %name;

my $gw = gateway(name => 'gw', workers => 2, http => <<"END");
hybrid_zone 2m;
hybrid_redis 127.0.0.1:$set->{nodes}[0]{port} cluster timeout=5s;
hybrid_clients redis;
hybrid_backend none { pass http://127.0.0.1:9; models *; probe off; }
hybrid_route * none;
END

# the tool's redis-cli, which dies after some calls
my $bin = dir() . '/bin';
mkdir $bin;
spew("$bin/redis-cli", <<'END');
#!/bin/sh
n=$(cat "$0.left")
[ "$n" -gt 0 ] || { echo gone; exit 1; }
echo $((n - 1)) >"$0.left"
PATH=${PATH#*:} exec redis-cli "$@"
END
chmod 0755, "$bin/redis-cli";

sub client {
    my ($calls, @args) = @_;
    spew("$bin/redis-cli.left", $calls);
    local $ENV{PATH} = "$bin:$ENV{PATH}";
    open my $out, '-|', 'sh', '-c', 'exec "$@" 2>&1', 'sh',
        "$root/tools/hybrid-token", 'client', @args, '--redis',
        "127.0.0.1:$set->{nodes}[1]{port}" or die "sh: $!";
    my $text = do { local $/; <$out> } // '';
    close $out;
    return $text;
}

sub done_ok {
    my (@args) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $said = client(99, @args);
    return is($?, 0, "@args[0, 1]") || diag($said);
}

sub token { return "token=$_[0] sha256:" . sha256_hex("secret of $_[0]") }

# a list needs no backend, but a right: "read"
sub status {
    my ($id) = @_;
    return raw_http($gw->{port}, "GET /api/tags HTTP/1.1\r\nHost: x\r\n"
        . "Authorization: Bearer $id:secret of $id\r\n"
        . "Connection: close\r\n\r\n")->{status};
}

# both workers, each a few times
sub all_give {
    my ($what, %expected) = @_;
    my %got;
    my $ok = wait_until(sub {
        for my $id (sort keys %expected) {
            for (1 .. 12) {
                $got{$id} = status($id);
                return 0 if $got{$id} != $expected{$id};
            }
        }
        return 1;
    }, 30);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok($ok, $what) || diag(explain(\%got));
}

sub index_has { return $set->owner($index)->command('HGET', $index, $_[0]) }


subtest 'made, changed, dropped' => sub {
    for my $name ($amy, $ben, $home) {
        done_ok('put', $name, token("$name-1"), 'models=*');
    }
    all_give('all nodes', map { ("$_-1" => 200) } $amy, $ben, $home);
    like(client(99, 'show', $amy), qr/^models \*;\ntoken $amy-1 /, 'show');
    is(client(99, 'list'), join('', map { "$_\n" } sort $amy, $ben, $home),
        'list');

    done_ok('put', $amy, token("$amy-1"), token("$amy-2"));
    all_give('another token', "$amy-1" => 200, "$amy-2" => 200);
    done_ok('put', $amy, token("$amy-2"), 'rate=1000r/s burst=100');
    all_give('only that', "$amy-1" => 401, "$amy-2" => 200);
    like(client(99, 'put', $ben, token("$amy-2")),
        qr/$amy-2 is an id of client $amy/, 'one that has an owner');
    isnt($?, 0, 'is refused');

    done_ok('drop', $ben);
    done_ok('drop', $home);
    all_give('dropped', "$ben-1" => 401, "$home-1" => 401, "$amy-2" => 200);
    like(client(99, 'drop', $ben), qr/there is no client/, 'not twice');
    is(index_has('.pending'), undef, 'nothing is pending');
};


# Calls: the one script, which the cluster refuses; what shall be; the
# identities; the client; the end.

for my $calls (2 .. 4) {
    subtest "a tool that dies after $calls steps" => sub {
        my $id = "$amy-$calls";
        done_ok('put', $amy, token("$id-old"), token("$id-both"));
        all_give('before', "$id-old" => 200, "$id-both" => 200);

        client($calls, 'put', $amy, token("$id-both"), token("$id-new"));
        isnt($?, 0, 'it says so');

        my $begun = $calls > 2;
        is(index_has("token:$id-old"), $begun ? undef : $amy, 'the old id');
        is(index_has('.pending'), $begun ? " $amy" : undef, 'pending');

        all_give('what was dropped is refused, what stays is not',
            "$id-both" => 200, "$id-old" => $begun ? 401 : 200,
            "$id-new" => $calls > 3 ? 200 : 401);

        if ($calls == 3) {

            # somebody else's change does not end it

            done_ok('put', $ben, token("$ben-1"), 'models=*');
            like(index_has('.version'), qr/^!/, 'still pending');
        }

        done_ok('put', $amy, token("$id-both"), token("$id-new"));
        is(index_has('.pending'), undef, 'again: done');
        unlike(index_has('.version'), qr/^!/, 'for gateways, too');
        all_give('as it was meant', "$id-both" => 200, "$id-old" => 401,
            "$id-new" => 200);
    };
}


subtest 'what gateways know while it is pending' => sub {
    my $id = "$amy-p";
    done_ok('put', $amy, token($id));
    all_give('before', $id => 200);
    client(3, 'put', $amy, token($id), 'verbs=admin');
    isnt($?, 0, 'died before the client was written');

    # as its next step would, when all have seen the last version: no other one
    # tells of it

    my $from = now();
    wait_until(sub { status($id); now() - $from > 3 });
    all_give('and goes on', $id => 200);

    $set->owner("hybrid:client:{$amy}")->command('HSET',
        "hybrid:client:{$amy}", 'verbs', 'admin');
    all_give('the client changes', $id => 403);
    done_ok('put', $amy, 'verbs=');
    all_give('and back', $id => 200);
};


subtest 'a drop that dies' => sub {
    for my $calls (3, 4) {
        my $id = "$amy-d$calls";
        done_ok('put', $amy, token($id), 'models=*');
        all_give('before', $id => 200);
        client($calls, 'drop', $amy);
        isnt($?, 0, "after $calls steps");
        all_give('refused', $id => 401);
        done_ok('drop', $amy);
        is(index_has('.pending'), undef, 'done');
        unlike(client(99, 'list'), qr/^$amy$/m, 'gone');
    }
};


# the hours of the history are keys like others, each on its node

my $hour = int(time / 3600);
ok(wait_until(sub { grep { my $key = "hybrid:history:$_";
    $set->owner($key)->command('HLEN', $key) > 0 } $hour, $hour + 1 }),
    'minutes are stored');
like(http($gw, 'GET', "/hybrid/status?history=$hour")->{body},
    qr/^\{"hour":$hour,.*"scope":"all"/, 'and read');

log_is_clean($gw, qr/authentication failures from/);
ok($gw->stop, 'ended');
all_ended();
done_testing();
