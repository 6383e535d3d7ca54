# A client's rate in Redis, for all workers of all gateways.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use Test::More;
use Time::HiRes 'sleep';

my $forge = backend(name => 'forge');
my $backends = "upstream forge { zone forge 64k;"
    . " server 127.0.0.1:$forge->{port}; keepalive 8; }\n"
    . "hybrid_backend forge { pass http://forge; models *; }\n"
    . "hybrid_route * forge;\n";

my $redis = redis(name => 'redis', unix => 1);
my $shared = client_block('shared', 'rate 50r/s burst=10;');
my $burst = client_block('burst', 'rate 1r/m burst=20;');
my $slow = client_block('slow', 'rate 1r/h burst=1;');

# waits of 2 s, so that a busy machine does not look like a Redis that is away
sub conf {
    my ($where, @clients) = @_;
    return "hybrid_zone 2m;\nhybrid_redis $where timeout=2s;\n"
        . join('', map { $_->{conf} } @clients) . $backends;
}

# until its workers have a connection: no request is made for that
sub ready {
    my ($gw) = @_;
    return wait_until(sub { $gw->status->{redis}{available} });
}

sub degraded { return scalar grep { $_->{limits} } @{ $_[0] } }


subtest 'two gateways, two workers each, four times the rate' => sub {
    my @gw = map {
        gateway(name => "both$_", workers => 2, listen => 'reuseport',
            http => conf("127.0.0.1:$redis->{port}", $shared, $burst, $slow))
    } 1, 2;
    ok(ready($_), "$_->{name} has Redis") for @gw;

    my $n = numbers(load(rate => 1000, count => 120, request => sub {
        return ($gw[ $_[0] % 2 ], post($burst)) })->results);
    is_deeply($n, { 200 => 20, 429 => 100 }, 'a burst is admitted exactly');

    $n = numbers(load(rate => 1000, count => 40, request => sub {
        return ($gw[ $_[0] % 2 ], post($slow)) })->results);
    is_deeply($n, { 200 => 1, 429 => 39 }, 'so is a burst of one');

    my $answer = raw_http($gw[0]{port}, post($slow));
    cmp_ok($answer->{headers}{'retry-after'}, '>', 3400, 'Retry-After');
    cmp_ok($answer->{headers}{'retry-after'}, '<=', 3600, 'of an hour');

    my $from = now();
    my $rows = load(rate => 200, seconds => 20, request => sub {
        return ($gw[ $_[0] % 2 ], post($shared)) })->results;
    my $time = now() - $from;
    my %n = %{ numbers($rows) };

    is_deeply([ sort keys %n ], [ 200, 429 ], 'nothing but 200 and 429')
        or diag(explain(\%n));
    is(degraded($rows), 0, 'Redis was never away');

    my $most = 10 + 50 * $time;
    my $least = 10 + 50 * ($rows->[-1]{start} - $rows->[0]{start});
    cmp_ok($n{200}, '<=', $most, sprintf 'at most %.1f', $most);
    cmp_ok($n{200}, '>=', 0.95 * $least, sprintf 'at least 95 %% of %.1f',
        $least);

    my %workers = map { $_->{worker} => 1 } @$rows;
    is(scalar keys %workers, 4, 'four workers took part');

    my ($waited, $refills) = (0, 0);
    for my $gw (@gw) {
        my ($c) = grep { $_->{name} eq 'shared' } @{ $gw->status->{clients} };
        $waited += $c->{waited};
        $refills += $c->{refills};
    }
    note(sprintf '%d of %d requests admitted in %.2f s: %.1f %% of %.1f; '
        . '%d questions to Redis, %d requests waited for one', $n{200},
        scalar @$rows, $time, 100 * $n{200} / $least, $least, $refills,
        $waited);

    # all the while there was another client, and Redis lost the scripts

    my $load = load(rate => 100, request => sub {
        return ($gw[ $_[0] % 2 ], post($shared)) });
    for (1 .. 20) {
        is($redis->command('SCRIPT', 'FLUSH'), 'OK', 'SCRIPT FLUSH')
            if $_ == 1;
        $redis->command('SCRIPT', 'FLUSH');
        sleep 0.05;
    }
    $rows = $load->stop;
    is_deeply([ sort keys %{ numbers($rows) } ], [ 200, 429 ],
        'NOSCRIPT: nothing but 200 and 429');
    is(degraded($rows), 0, 'and nothing without Redis');

    # something else is under the key

    my $key = 'hybrid:{shared}:limits';
    is($redis->command('TYPE', $key), 'hash', "the bucket is in $key");
    my $left = $redis->command('PTTL', $key);
    cmp_ok($left, '<=', 1300, 'it ends by itself');
    $redis->command('DEL', $key);
    $redis->command('LPUSH', $key, 'x');

    $load = load(rate => 200, seconds => 2, request => sub {
        return ($gw[ $_[0] % 2 ], post($shared)) });
    $rows = $load->results;
    is_deeply([ sort keys %{ numbers($rows) } ], [ 200, 429 ],
        'a key of another type: nothing but 200 and 429');
    cmp_ok(degraded($rows), '>', 0, 'limits are local then');
    cmp_ok(admitted($rows), '<=', 2 * (10 + 50 * 2.5) + 10,
        'and hold: ' . admitted($rows));

    $redis->command('DEL', $key);
    ok(wait_until(sub {
        my $answer = raw_http($gw[0]{port}, post($shared));
        return $answer->{status} == 200
            && !$answer->{headers}{'x-hybrid-limits'} }, 5),
        'Redis again, once the key is gone');

    for my $gw (@gw) {
        log_is_clean($gw, qr/WRONGTYPE/);
        my @said = HybridRedis::slurp($gw->{log}) =~ /(WRONGTYPE)/g;
        cmp_ok(scalar @said, '>=', 1, 'the log says why');
        cmp_ok(scalar @said, '<=', 20, 'but not for every request');
        ok($gw->stop, "$gw->{name} ends");
    }
};


# one gateway and one client with a burst: admitted exactly, and not twice
sub holds {
    my ($what, $redis, $key, $where, %o) = @_;
    my $gw = gateway(workers => 2, http => conf($where, $burst));

    subtest $what => sub {
        ok(ready($gw), 'Redis is there');
        my $rows = load(rate => 1000, count => 40, request => sub {
            return ($gw, post($burst)) })->results;
        is_deeply(numbers($rows), { 200 => 20, 429 => 20 }, 'the burst');
        is(degraded($rows), 0, 'decided by Redis');
        is($redis->command('TYPE', $key), 'hash', "in $key");
        my @secrets = grep { HybridRedis::slurp($gw->{log}) =~ /\Q$_\E/ }
            @{ $o{secrets} || [] };
        is(scalar @secrets, 0, 'no password in the log');
        log_is_clean($gw, @{ $o{expected} || [] });
        ok($gw->stop, 'ended');
    };
    return;
}

$redis->command('FLUSHALL');
holds('a unix socket', $redis, 'hybrid:{burst}:limits',
    "unix:$redis->{socket}");

$redis->command('FLUSHALL');
holds('prefix=', $redis, 'other.one{burst}:limits',
    "127.0.0.1:$redis->{port} prefix=other.one");

$redis->command('FLUSHALL');
$redis->{login} = [ [ 'SELECT', 3 ] ];
holds('db=', $redis, 'hybrid:{burst}:limits',
    "127.0.0.1:$redis->{port} db=3");
$redis->{login} = [ [ 'SELECT', 0 ] ];
is_deeply($redis->command('KEYS', '*'), [], 'and nothing in db 0');
$redis->{login} = undef;

my $password = q{pass-"word'7\\of#redis;};
my $file = HybridRedis::spew(dir() . '/password', "$password\n");
my $locked = redis(name => 'locked', args => [ '--requirepass', $password ],
    login => [ [ 'AUTH', $password ] ]);

holds('password_file=', $locked, 'hybrid:{burst}:limits',
    "127.0.0.1:$locked->{port} password_file=$file",
    secrets => [ $password ]);

# what the README asks for is enough: its keys, and few commands
is($locked->command('ACL', 'SETUSER', 'gateway', 'reset', 'on',
    '>acl-secret', '~hybrid:*', '+ping', '+select', '+eval', '+evalsha',
    '+get', '+set', '+time', '+hget', '+hset', '+hincrby', '+pexpire',
    '+sadd', '+smembers', '+hgetall', '+hmget', '+hsetnx', '+hlen',
    '+hdel', '+pttl'),
    'OK',
    'an ACL user');
my $acl = HybridRedis::spew(dir() . '/acl', 'acl-secret');
$locked->command('FLUSHALL');

holds('username=', $locked, 'hybrid:{burst}:limits',
    "127.0.0.1:$locked->{port} username=gateway password_file=$acl",
    secrets => [ 'acl-secret' ]);


subtest 'a Redis that does not let us in' => sub {
    my $wrong = HybridRedis::spew(dir() . '/wrong', 'not-the-password');
    $locked->command('ACL', 'SETUSER', 'nothing', 'reset', 'on', '>x',
        '~other:*', '+ping', '+evalsha');

    my %case = (
        'a wrong password' => [ "password_file=$wrong", qr/WRONGPASS/ ],
        'no password' => [ '', qr/NOAUTH/ ],
        'not these keys' => [ 'username=nothing password_file='
            . HybridRedis::spew(dir() . '/nothing', 'x'), qr/NOPERM/ ],
    );

    for my $what (sort keys %case) {
        my ($more, $message) = @{ $case{$what} };
        my $gw = gateway(workers => 1,
            http => conf("127.0.0.1:$locked->{port} $more", $burst));
        sleep 0.3;
        my $rows = load(rate => 200, count => 40, request => sub {
            return ($gw, post($burst)) })->results;
        is_deeply(numbers($rows), { 200 => 20, 429 => 20 }, $what);
        is(degraded($rows), 40, 'all were decided here');
        sleep 2;
        my $log = HybridRedis::slurp($gw->{log});
        like($log, $message, 'the log says why');
        my @lines = $log =~ /(redis ".*)/g;
        cmp_ok(scalar @lines, '<=', 3, @lines . ' lines about it');
        unlike($log, qr/not-the-password/, 'not with the password');
        log_is_clean($gw, qr/redis "/);
        ok($gw->stop, 'ended');
    }
};


subtest 'a replica that is not to be written to' => sub {
    my $replica = redis(name => 'replica',
        args => [ '--replicaof', '127.0.0.1', $redis->{port} ]);
    my $gw = gateway(workers => 2,
        http => conf("127.0.0.1:$replica->{port}", $shared));
    sleep 0.3;

    my $rows = load(rate => 200, seconds => 3, request => sub {
        return ($gw, post($shared)) })->results;
    is_deeply([ sort keys %{ numbers($rows) } ], [ 200, 429 ],
        'nothing but 200 and 429') or diag(explain(numbers($rows)));
    cmp_ok(admitted($rows), '<=', 10 + 50 * 3.5, 'limits hold: '
        . admitted($rows));
    cmp_ok(admitted($rows), '>=', 0.9 * 50 * 3, 'and give what there is');
    # a "no" needs no writing, so some answers are the replica's
    cmp_ok(degraded($rows), '>', 0.5 * @$rows, 'locally: '
        . degraded($rows) . ' of ' . @$rows);

    my $log = HybridRedis::slurp($gw->{log});
    like($log, qr/READONLY/, 'the log says why');
    my @lines = $log =~ /(redis ".*)/g;
    cmp_ok(scalar @lines, '<=', 6, @lines . ' lines about it');

    is($replica->command('REPLICAOF', 'NO', 'ONE'), 'OK', 'made a master');
    ok(wait_until(sub {
        my $answer = raw_http($gw->{port}, post($shared));
        return $answer->{status} == 200
            && !$answer->{headers}{'x-hybrid-limits'} }, 5), 'and used');

    log_is_clean($gw, qr/\[error\].*redis "/);
    ok($gw->stop, 'ended');
    ok($replica->stop('TERM'), 'Redis ended');
};

all_ended();
done_testing();
