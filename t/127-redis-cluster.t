# A cluster of real Redis processes: keys in their slots, slots that move, and
# nodes that die, under load.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use HybridRedisGroup;
use MockRedis;
use Test::More;
use Time::HiRes 'sleep';

if (`redis-server --version` !~ /v=(\d+)/ || $1 < 4) {
    plan(skip_all => 'needs redis-server 4 or later');
}

my $set = cluster(masters => 3, replicas => 1);
my @node = @{ $set->{nodes} };
my $seeds = join ' ', map { "127.0.0.1:$_->{port}" } @node[0, 1];

my %client = map { $_->{name} => $_ }
    (map { client_block("c$_", 'rate 20r/s burst=5;') } 0 .. 11),
    client_block('closed', 'rate 1r/s burst=50 loss=closed;');

sub conf {
    my ($where, $timeout, $more) = @_;
    return "hybrid_zone 2m;\n"
        . "hybrid_redis $where cluster timeout=$timeout;\n" . ($more // '')
        . join('', map { $_->{conf} } values %client)
        . "hybrid_backend none { pass http://127.0.0.1:9; models a;"
        . " probe off; }\n"
        . "hybrid_route * none;\n";
}

# a list of models needs no backend, but a credit as all requests do
sub ask {
    my ($client) = @_;
    return "GET /api/tags HTTP/1.1\r\nHost: x\r\n$client->{headers}"
        . "Connection: close\r\n\r\n";
}

sub limits {
    my ($gw, $name) = @_;
    my $answer = raw_http($gw->{port}, ask($client{$name}));
    return "$answer->{status} " . ($answer->{headers}{'x-hybrid-limits'}
        // '-');
}

sub flow {
    my ($gws, $rate, @names) = @_;
    my $n = 0;
    return load(rate => $rate, request => sub {
        my $name = $names[ $_[0] % @names ];
        return ($gws->[ int($_[0] / @names) % @$gws ], ask($client{$name}),
            $name) });
}

sub of { my ($rows, $name) = @_; return [ grep { $_->{tag} eq $name } @$rows ] }

sub marked { return scalar grep { $_->{limits} } @{ $_[0] } }

# from its first request on: burst + rate x t, and nothing else
sub holds {
    my ($rows, $name, $more) = @_;
    my @own = sort { $a->{start} <=> $b->{start} } @{ of($rows, $name) };
    my ($last) = sort { $b <=> $a } map { $_->{end} } @own;
    my $most = 5 + 20 * ($last - $own[0]{start}) + 1 + ($more // 0);
    return admitted(\@own) <= $most ? 1 : (diag(sprintf
        '%s: %d admitted, at most %.1f', $name, admitted(\@own), $most), 0);
}

my @expected = (qr/\[error\].*redis "/);
my @names = map { "c$_" } 0 .. 11;
my @gw = map { gateway(name => "gw$_", workers => 2,
    http => conf($seeds, '5s')) } 1, 2;


subtest 'keys are where their slots are' => sub {
    for my $name (@names, 'closed') {
        is(limits($gw[ $_ ], $name), '200 -', "$name, gw$_") for 0, 1;
    }

    my %at;
    for my $name (@names) {
        my $key = "hybrid:{$name}:limits";
        my $owner = $set->owner($key);
        like($owner->command('HGET', $key, 'rate'), qr/^\d{16}$/,
            "$name is at $owner->{name}");
        $at{ $owner->{name} }++;
    }
    cmp_ok(scalar keys %at, '==', 3, 'all nodes have some');

    ok(wait_until(sub { @{ $set->command('SMEMBERS', 'hybrid:stats') } >= 13 }),
        'all series are known');
    my %sum;
    ok(wait_until(sub {
        %sum = ();
        my $status = $gw[1]->status or return;
        for my $row (@{ $status->{series} }) {
            $sum{ $row->{client} } += $_ for values %{ $row->{requests} };
        }
        return 13 == grep { $_ == 2 } values %sum;
    }), 'each gateway shows the requests of both') or diag(explain(\%sum));
};


subtest 'slots move under load' => sub {
    my $load = flow(\@gw, 480, @names);
    sleep 1;

    # all of the clients' slots, and some in between, to another node; and
    # those that are for all: statistics, revocations

    my ($moved, $slots) = (0, 0);
    my %slot = map { $set->slot($_) => 1 } 'hybrid:stats', 'hybrid:revoked',
        map { "hybrid:{$_}:limits" } @names;

    for my $slot (sort { $a <=> $b } keys %slot) {
        my $from = (grep { $slot < int 16384 * ($_ + 1) / 3 } 0 .. 2)[0];
        $moved += $set->move($slot, $node[$from], $node[ ($from + 1) % 3 ],
            sub { sleep 0.1 });
        $slots++;
    }

    sleep 1;
    my $rows = $load->stop;
    my %n = %{ numbers($rows) };

    is_deeply([ sort keys %n ], [ 200, 429 ], 'no failed request')
        or diag(explain(\%n));
    is(marked($rows), 0, 'all decided by Redis');
    cmp_ok($moved, '>=', 12, "$moved keys of $slots slots have moved");
    # what was leased before comes on top: a batch of two, each

    is(scalar(grep { !holds($rows, $_, 4) } @names), 0, 'the limit holds');

    my $admitted = admitted($rows);
    my $time = $rows->[-1]{end} - $rows->[0]{start};
    cmp_ok($admitted, '>=', 0.5 * 12 * 20 * $time, 'and not too few');
    note(sprintf '%d of %d requests admitted in %.1f s', $admitted,
        scalar @$rows, $time);

    for my $name (@names) {
        my $key = "hybrid:{$name}:limits";
        my $slot = $set->slot($key);
        my $from = (grep { $slot < int 16384 * ($_ + 1) / 3 } 0 .. 2)[0];
        like($node[ ($from + 1) % 3 ]->command('HGET', $key, 'rate')
            // 'none', qr/^(?:\d{16}|none)$/, "$name has moved");
    }

    log_is_clean($_) for @gw;
};


subtest 'a key that is asked for elsewhere' => sub {

    # half moved: the key is with the one that imports it

    my $slot = $set->slot('hybrid:{closed}:limits');
    my $from = $set->owner('hybrid:{closed}:limits');
    my ($to) = grep { $_ != $from } @node[0 .. 2];

    $to->command('CLUSTER', 'SETSLOT', $slot, 'IMPORTING', $set->{id}{$from});
    $from->command('CLUSTER', 'SETSLOT', $slot, 'MIGRATING', $set->{id}{$to});
    $to->command('SCRIPT', 'FLUSH');

    $from->command('DEL', 'hybrid:{closed}:limits');
    my @got = map { limits($gw[ $_ % 2 ], 'closed') } 1 .. 40;
    is(scalar(grep { $_ eq '200 -' } @got), 40, 'answered')
        or diag(explain(\@got));
    like($from->command('HGET', 'hybrid:{closed}:limits', 'rate'), qr/^-ASK/,
        'by the other node');

    $_->command('CLUSTER', 'SETSLOT', $slot, 'NODE', $set->{id}{$to})
        for $to, $from, $set->masters;
    is(limits($gw[0], 'closed'), '200 -', 'and later');
};


subtest 'a node dies under load' => sub {
    my $fast = gateway(name => 'fast', workers => 2,
        http => conf($seeds, '1s'));
    wait_until(sub { !grep { limits($fast, $_) !~ / -$/ } @names });

    my ($dead) = grep { $_ != $node[0] } map { $set->owner(
        "hybrid:{$_}:limits") } @names;
    my %hit = map { $_ => 1 }
        grep { $set->owner("hybrid:{$_}:limits") == $dead } @names;
    my $n = (grep { $node[$_] == $dead } 0 .. 2)[0];
    my $heir = $node[ $n + 3 ];

    my $load = flow([ $fast ], 360, @names);
    sleep 1;
    $dead->stop('KILL');
    my $gone = now();

    ok(wait_until(sub { $heir->command('ROLE')->[0] eq 'master' }, 60),
        'its replica takes over');
    my $promoted = now();
    my %back;
    ok(wait_until(sub {
        $back{$_} //= limits($fast, $_) =~ / -$/ ? now() : undef
            for keys %hit;
        return !grep { !$back{$_} } keys %hit }, 30), 'and is used');
    sleep 2;

    my $rows = $load->stop;
    my %n = %{ numbers($rows) };
    is_deeply([ sort keys %n ], [ 200, 429 ], 'no failed request')
        or diag(explain(\%n));

    my ($last) = sort { $b <=> $a } 0, map { $_->{end} } grep { $_->{limits} }
        @$rows;
    note(sprintf 'promoted after %.2f s, last decided without Redis %.2f s '
        . 'after that, %d of %d requests', $promoted - $gone,
        $last - $promoted, marked($rows), scalar @$rows);

    cmp_ok(marked($rows), '>=', 1, 'its clients did without');
    is(scalar(grep { $_->{limits} && !$hit{ $_->{tag} } } @$rows), 0,
        'and no others');

    # one gateway: what it admits by itself is in its own bucket, too

    is(scalar(grep { !holds($rows, $_, 2 * 3) } @names), 0,
        'the limit holds, but for what was leased');
    log_is_clean($fast, @expected);
    ok($fast->stop, 'ended');

    ok($dead->start, 'it is back, as a replica');
    ok(wait_until(sub { $set->settled }, 60), 'and all is well');
    is((limits($gw[ $_ ], 'c1') =~ / (.*)/)[0], '-', "gw$_") for 0, 1;
    log_is_clean($_, @expected) for @gw;
};


subtest 'slots that nobody has' => sub {
    my $slot = $set->slot('hybrid:{c0}:limits');
    my $client = 'c0';
    $_->command('CLUSTER', 'DELSLOTS', $slot) for @node;
    ok(wait_until(sub { limits($gw[0], $client) =~ / local$/ }),
        'decided here');
    is((limits($gw[0], 'c1') =~ / (.*)/)[0], '-', 'others by Redis');
    my ($owner) = $set->masters;
    $owner->command('CLUSTER', 'ADDSLOTS', $slot);
    ok(wait_until(sub { limits($gw[0], $client) =~ / -$/ }, 60), 'and again');
    log_is_clean($gw[0], @expected, qr/redis cluster: .* some slots/);
};


subtest 'what is no cluster' => sub {
    my $alone = redis(name => 'alone');
    my $gw = gateway(name => 'wrong', workers => 1,
        http => conf("127.0.0.1:$alone->{port}", '5s'));
    ok(wait_until(sub { slurp($gw->{log}) =~ /cluster support disabled/ }),
        'the log says it');
    is(limits($gw, 'c0'), '200 local', 'and it is not used');
    ok($gw->stop, 'ended');
    log_is_clean($gw, qr/cluster support disabled/, @expected,
        qr/revocations/);
};

subtest 'what nodes say' => sub {
    my $mock = MockRedis->new;
    my $port = $mock->{addr} =~ s/.*://r;
    my $map = "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n\$9\r\n127.0.0.1\r\n"
        . ":$port\r\n";
    my $nobody = free_port();

    my %says = (
        'a name in the map' => [ CLUSTER => $map =~ s/9\r\n127.0.0.1/
            "5\r\nredis"/er, qr/announces a name.*: redis/ ],
        'an integer as map' => [ CLUSTER => ":1\r\n", qr/unexpected answer/ ],
        'an empty map' => [ CLUSTER => "*0\r\n", qr/no map of slots/ ],
        'no map' => [ CLUSTER => 'never', qr/is away \(no answer in time\)/ ],
        'the end' => [ CLUSTER => 'close', qr/is away/ ],
        'MOVED to a name' => [ EVALSHA => "-MOVED 1 redis:1\r\n",
            qr/announces a name.*: redis/ ],
        'MOVED to nowhere' => [ EVALSHA => "-MOVED 1\r\n",
            qr/unexpected answer/ ],
        'MOVED to a dead node' => [ EVALSHA => "-MOVED 1 127.0.0.1:$nobody\r\n",
            qr/"127.0.0.1:$nobody" is away/ ],
        'MOVED to itself' => [ EVALSHA => "-MOVED 1 :$port\r\n", qr/^/ ],
        'ASK to itself' => [ EVALSHA => "-ASK 1 127.0.0.1:$port\r\n", qr/^/ ],
        'TRYAGAIN' => [ EVALSHA => "-TRYAGAIN Multiple keys\r\n", qr/^/ ],
        'CLUSTERDOWN' => [ EVALSHA => "-CLUSTERDOWN The cluster is down\r\n",
            qr/can't serve: "CLUSTERDOWN/ ],
    );

    for my $what (sort keys %says) {
        my ($command, $answer, $why) = @{ $says{$what} };
        $mock->well;
        $mock->set(CLUSTER => $map);
        $mock->set($command => $answer);
        my $gw = gateway(workers => 1, http => conf($mock->{addr}, '500ms'));
        ok(wait_until(sub { limits($gw, 'c0') =~ / local$/ }), $what);
        ok(wait_until(sub { limits($gw, 'c0'); slurp($gw->{log}) =~ $why }),
            'the log tells');
        my $from = $mock->count('EVALSHA');
        limits($gw, 'c1');
        cmp_ok($mock->count('EVALSHA') - $from, '<=', 16, 'not for ever');

        $mock->set(CLUSTER => $map);
        $mock->set(EVALSHA => 'usual');
        ok(wait_until(sub { limits($gw, 'c0') =~ / -$/ }, 30), 'well again');
        ok($gw->stop, 'ended');
        log_is_clean($gw, @expected, qr/redis cluster: /,
            qr/(?:revocations|levers)/);
    }
};


for my $gw (@gw) {
    ok($gw->stop, 'ended');
}

all_ended();
done_testing();
