# Users of Redis who may do no more than README says: all works, and Redis
# refuses nothing.

use strict;
use warnings;

use lib 't/lib';
use Digest::SHA 'sha256_hex';
use HybridRedis;
use Test::More;

my $root = $ENV{HYBRID_ROOT} || '.';
my %rule = slurp("$root/README.md")
    =~ /^    ACL SETUSER (gateway|token) on >PASSWORD (.*)$/mg;
ok($rule{$_}, "README has the rules of \"$_\"") for qw(gateway token);

my $redis = redis(name => 'redis');
if ($redis->command('ACL', 'WHOAMI') =~ /^-/) {
    plan(skip_all => 'needs redis-server 6 or later');
}

for my $user (sort keys %rule) {
    is($redis->command('ACL', 'SETUSER', $user, 'on', ">of-$user",
        split ' ', $rule{$user}), 'OK', "made $user");
    spew(dir() . "/$user", "of-$user\n");
}
chmod 0600, map { dir() . "/$_" } keys %rule;

sub tool {
    my (@args) = @_;
    open my $out, '-|', 'sh', '-c', 'exec "$@" 2>&1', 'sh',
        "$root/tools/hybrid-token", @args, '--redis',
        "127.0.0.1:$redis->{port}", '--user', 'token', '--password-file',
        dir() . '/token' or die "sh: $!";
    my $text = do { local $/; <$out> } // '';
    close $out;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is($?, 0, "tool: @args") || diag($text);
}

my $forge = backend(name => 'forge');
my $file = client_block('file', 'rate 1000r/s burst=100; tokens 9m/m;'
    . ' concurrency 20;');

my ($gw, $other) = map { gateway(name => $_, workers => 2,
    http => <<"END") } qw(gw other);
hybrid_zone 2m;
hybrid_redis 127.0.0.1:$redis->{port} timeout=5s username=gateway
    password_file=${\ dir() }/gateway;
hybrid_clients redis;
$file->{conf}
upstream forge { zone forge 64k; server 127.0.0.1:$forge->{port}; }
hybrid_backend forge { pass http://forge; models *; }
hybrid_route * forge;
END

sub answer {
    my ($gw, $headers) = @_;
    return raw_http($gw->{port}, post({ headers => $headers }));
}

sub gives {
    my ($headers, $status, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok(wait_until(sub {
        return 4 == grep { my $answer = answer($_, $headers);
            $answer->{status} == $status
                && !$answer->{headers}{'x-hybrid-limits'} }
            $gw, $gw, $other, $other }, 30), $what);
}

gives($file->{headers}, 200, 'limits');

my $bob = "Authorization: Bearer bob:secret\r\n";
tool('client', 'put', 'bob', 'token=bob sha256:' . sha256_hex('secret'),
    'models=*', 'rate=1000r/s burst=100', 'budget=1.00/d');
gives($bob, 200, 'a client in Redis');
tool('revoke', 'token', 'bob');
gives($bob, 401, 'a revocation');
tool('restore', 'token', 'bob');
gives($bob, 200, 'and back');
tool('list');
tool('client', 'show', 'bob');
tool('client', 'list');
tool('client', 'drop', 'bob');
gives($bob, 401, 'dropped');

ok(wait_until(sub {
    my $status = $other->status or return;
    my $n = 0;
    $n += $_->{requests}{ok} for grep { $_->{client} eq 'file' }
        @{ $status->{series} };
    return $status->{scope} eq 'all' && $n >= 4 }), 'statistics of both');

my $hour = int(time / 3600);
my %wrote;
ok(wait_until(sub {
    my $history = http($gw, 'GET', "/hybrid/status?history=$hour")->{body};
    my @fields = map { @{ $redis->command('HKEYS', "hybrid:history:$_") } }
        $hour, $hour + 1;
    %wrote = map { /:(.*)/ ? ($1 => 1) : () } @fields;
    return keys %wrote == 2 && $history =~ /"scope":"all"/ }),
    'the history of both');

# what is lost comes back: revocations are written by gateways, too
tool('revoke', 'token', 'eve');
ok(wait_until(sub { $gw->status->{revocations}{entries} }), 'known')
    if exists $gw->status->{revocations};
my $from = now();
wait_until(sub { now() - $from > 2.5 });
$redis->command('DEL', 'hybrid:revoked');
ok(wait_until(sub { $redis->command('HGET', 'hybrid:revoked', 'token:eve') },
    30), 'written again');

# one that does not know AUTH says what it was sent
my $old = redis(name => 'old', args => [ '--rename-command', 'AUTH', '' ]);
my $word = spew(dir() . '/word', "secret-word\n");
my $third = gateway(name => 'third', workers => 1, http => <<"END");
hybrid_zone 2m;
hybrid_redis 127.0.0.1:$old->{port} timeout=1s password_file=$word;
$file->{conf}
hybrid_backend none { pass http://127.0.0.1:9; models a; probe off; }
hybrid_route * none;
END
ok(wait_until(sub { slurp($third->{log}) =~ /can't serve: "ERR unknown/ }),
    'AUTH is unknown');
unlike(slurp($third->{log}), qr/secret-word/, 'the log has no password');
ok($third->stop, 'ended');

my $log = $redis->command('ACL', 'LOG');
is_deeply($log, [], 'nothing was refused') or diag(explain($log));
log_is_clean($_, qr/authentication failures/, qr/revo[ck]/) for $gw, $other;
ok($_->stop, 'ended') for $gw, $other;
all_ended();
done_testing();
