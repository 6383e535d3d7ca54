# Who is revoked in Redis is refused on all gateways within two seconds, and
# nothing is forgotten: not without Redis, nor when it has lost its data.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use Test::More;
use Time::HiRes 'sleep';

my $tool = ($ENV{HYBRID_ROOT} || '.') . '/tools/hybrid-token';
my $redis = redis(name => 'redis', unix => 1);

my %client = map { $_->{name} => $_ }
    map { client_block($_, '') } qw(one two three);

sub conf {
    my ($port) = @_;
    return "hybrid_zone 8m;\nhybrid_redis 127.0.0.1:$port timeout=200ms;\n"
        . join('', map { $client{$_}{conf} } sort keys %client)
        . "hybrid_backend none { pass http://127.0.0.1:9; models a;"
        . " probe off; }\n"
        . "hybrid_route * none;\n";
}

my @gw = map { gateway(name => "revoke$_", workers => 3, level => 'info',
    http => conf($redis->{port})) } 1, 2;

# what the tool says; its exit code in $code
my $code;
sub tool {
    my (@args) = @_;
    my $out = dir() . '/tool';
    my $pid = fork // die "fork: $!";

    if (!$pid) {
        open STDOUT, '>', $out;
        open STDERR, '>&', \*STDOUT;
        exec 'sh', $tool, @args or POSIX::_exit(127);
    }

    waitpid $pid, 0;
    $code = $? >> 8;
    return slurp($out);
}

sub listed { return tool(@_, '--redis', "127.0.0.1:$redis->{port}") }

sub change {
    my (@args) = @_;
    my $said = listed(@args);
    is($code, 0, "@args") or diag($said);
    return now();
}

# a list of models needs no backend
sub ask {
    my ($gw, $client, %o) = @_;
    my $headers = $o{headers} // $client{$client}{headers};
    return raw_http($gw->{port}, "GET /api/tags HTTP/1.1\r\nHost: x\r\n"
        . "${headers}Connection: close\r\n\r\n");
}

# as many as make it likely that each worker was asked
sub all_say {
    my ($client, $status, @some) = @_;
    for my $gw (@some ? @some : @gw) {
        for (1 .. 15) {
            return 0 if ask($gw, $client)->{status} != $status;
        }
    }
    return 1;
}

# the seconds since then until all of them say so
sub becomes {
    my ($from, $client, $status, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $end;

    ok(wait_until(sub {
        $end = now();
        all_say($client, $status);
    }), $what // "$client: $status");
    diag(sprintf '%s: %d after %.2f s', $client, $status, $end - $from);
    return $end - $from;
}

sub revocations { return $_[0]->status('gateway')->{revocations} // {} }

sub entries {
    my ($n) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    for my $gw (@gw) {
        ok(wait_until(sub { (revocations($gw)->{entries} // -1) == $n }),
            "$gw->{name}: $n revocations")
            or diag(explain(revocations($gw)));
    }
    return;
}

# they have read it, and Redis's word stands
sub settled {
    my $version = $redis->command('HGET', 'hybrid:revoked', '.version');
    sleep 1.2;
    return $version eq $redis->command('HGET', 'hybrid:revoked', '.version');
}

sub warned {
    my ($gw, $what) = @_;
    return scalar(() = slurp($gw->{log}) =~ /\[warn\].*$what/g);
}

sub freeze { kill 'STOP', $_[0]->workers(1) }
sub thaw { kill 'CONT', $_[0]->workers(1) }

wait_until(sub { revocations($_)->{known} }) for @gw;
entries(0);


subtest 'a token, and a client' => sub {
    is(ask($gw[0], 'one')->{status}, 200, 'at first');

    for my $what ([ token => 'one.access' ], [ client => 'one' ]) {
        my $from = change('revoke', @$what);
        cmp_ok(becomes($from, 'one', 401), '<', 10, 'soon');
        ok(all_say('two', 200), 'another is not');

        my ($is, $wrong) = (ask($gw[0], 'one'), ask($gw[0], undef,
            headers => "Authorization: Bearer one.access:wrong\r\n"));
        is_deeply([ @$is{qw(status body)} ], [ @$wrong{qw(status body)} ],
            'the answer does not tell');
        is($is->{headers}{'x-hybrid-reason'}, 'unauthenticated', 'nor this');
        like(slurp($gw[0]{log}), qr/\[info\].*the token is revoked/,
            'the log does');
        like(listed('list'), qr/^$what->[0]:$what->[1]  \d{4}-\S+Z$/m, 'list');

        $from = change('restore', @$what);
        cmp_ok(becomes($from, 'one', 200), '<', 10, 'soon');
    }

    is(listed('list'), '', 'none is left');
    is(warned($_, '.'), 0, 'no warning') for @gw;
};


subtest 'status pages' => sub {
    my $from = change('revoke', 'client', 'three', '--note',
        'has "left", of the same slot');
    becomes($from, 'three', 401);
    entries(1);
    my $is = revocations($gw[0]);
    is($is->{error}, undef, 'no error');
    cmp_ok($is->{age}, '<', 10, "$is->{age} s old");

    my $text = http($gw[0], 'GET', '/hybrid/metrics')->{body};
    like($text, qr/^ngx_hybrid_revocations 1$/m, 'a metric');
    like($text, qr/^ngx_hybrid_revocations_age_seconds \d+\.\d+$/m, 'and age');
    like(listed('list'), qr/^client:three  \S+Z has "left", of the same slot$/,
        'a note');
};


subtest 'without Redis' => sub {
    $redis->stop;
    ok(wait_until(sub { revocations($gw[0])->{error} }), 'an error is shown');
    is(revocations($gw[0])->{error}, 'redis is away', 'which');
    ok(wait_until(sub { revocations($gw[0])->{age} > 2 }), 'its age grows');
    ok(all_say('three', 401), 'in force');
    ok(all_say('one', 200), 'and others are not');

    ok($gw[0]->reload, 'reloaded');
    ok(all_say('three', 401, $gw[0]), 'in force');

    my %old = map { $_ => 1 } my @old = $gw[1]->workers;
    kill 'KILL', @old;
    ok(wait_until(sub { 3 == grep { !$old{$_} } $gw[1]->workers }),
        'new workers');
    ok(all_say('three', 401, $gw[1]), 'in force');
};


subtest 'an empty Redis' => sub {
    ok($redis->start, 'Redis again, without its data');
    my $from = change('revoke', 'token', 'two.access');
    becomes($from, 'two', 401, 'what is revoked meanwhile');
    ok(all_say('three', 401), 'and what was before');
    entries(2);

    ok(settled(), 'the gateways agree');
    like(listed('list'), qr/\Aclient:three  \S+ has "left", of the same slot
token:two.access /,
        'written back');
    is(scalar(map { (1) x warned($_, 'redis has lost 1 rev') } @gw), 1,
        'said once');
    $from = change('restore', 'client', 'three');
    becomes($from, 'three', 200);
    entries(1);
};


subtest 'an older Redis' => sub {
    $redis->command('SAVE');
    becomes(change('revoke', 'token', 'three.access'), 'three', 401);
    $redis->stop;
    ok($redis->start, 'as it was before');
    ok(wait_until(sub { listed('list') =~ /three.access/ }), 'written back');
    ok(all_say($_, 401), "$_ in force") for qw(two three);

    # and changed before a gateway looks: its sequence says nothing then

    for my $n (1, 3) {
        ok(settled(), 'the gateways agree');
        $redis->command('SAVE');
        becomes(change('revoke', 'client', 'one'), 'one', 401);
        freeze($_) for @gw;
        $redis->stop;
        ok($redis->start, 'as it was before');
        change('revoke', 'token', "x$n.$_") for 1 .. $n;
        thaw($_) for @gw;

        ok(wait_until(sub { listed('list') =~ /client:one/ }), 'written back');
        ok(all_say($_, 401), "$_ in force") for qw(one two three);
        ok(settled(), 'the gateways agree');
        becomes(change('restore', 'client', 'one'), 'one', 200);
    }

    becomes(change('revoke', 'client', 'one'), 'one', 401);
    entries(7);
};


subtest 'gateways that know different things' => sub {
    ok(settled(), 'the gateways agree');
    freeze($gw[0]);
    change('revoke', 'token', 'y1');
    ok(wait_until(sub { revocations($gw[1])->{entries} == 8 }), 'one does');
    freeze($gw[1]);
    $redis->command('FLUSHALL');
    thaw($gw[0]);
    ok(wait_until(sub { listed('list') =~ /x1.1/ }), 'the other writes');
    unlike(listed('list'), qr/y1/, 'what it knows');
    change('restore', 'token', $_) for qw(x1.1 x3.1);
    change('revoke', 'token', 'y2');
    thaw($gw[1]);
    ok(wait_until(sub { listed('list') =~ /y1/ }), 'and the one');
    ok(wait_until(sub { my @n = map { revocations($_)->{entries} } @gw;
        $n[0] == $n[1] }), 'both have the same');
    ok(settled(), 'the gateways agree');
    like(listed('list'), qr/token:y1 .*token:y2 /s, 'nothing is forgotten');
    like(listed('list'), qr/token:x1.1 /, 'nor what was restored of a loss');
};


subtest 'workers that die' => sub {
    $redis->command('DEL', 'hybrid:revoked');
    kill 'KILL', ($_->workers)[0] for @gw;
    ok(wait_until(sub { listed('list') =~ /client:one/ }), 'written back');
    ok(wait_until(\&settled), 'the gateways agree');

    for my $n (0 .. 2) {
        kill 'KILL', map { ($_->workers)[0] // () } @gw;
        my $from = change('restore', 'client', 'one');
        becomes($from, 'one', 200);
        kill 'KILL', map { ($_->workers)[-1] // () } @gw;
        $from = change('revoke', 'client', 'one');
        becomes($from, 'one', 401);
    }
};


subtest 'lists that can not be read' => sub {
    ok(settled(), 'the gateways agree');
    my $n = revocations($gw[0])->{entries};

    $redis->command('RENAME', 'hybrid:revoked', 'hybrid:kept');
    $redis->command('SET', 'hybrid:revoked', 'x');
    ok(wait_until(sub { (revocations($_)->{error} // '') =~ /WRONGTYPE/ }),
        'not a list') for @gw;
    entries($n);
    ok(all_say('one', 401), 'in force');
    is(warned($_, "revocations can't be read.*WRONGTYPE"), 1, 'said once')
        for @gw;

    $redis->command('DEL', 'hybrid:revoked');
    $redis->command('HSET', 'hybrid:revoked', map { ("token:n$_", 'x') }
        1 .. 10100);
    ok(wait_until(sub { (revocations($_)->{error} // '')
        =~ /the list is too large/ }), 'too many') for @gw;
    entries($n);

    $redis->command('DEL', 'hybrid:revoked');
    $redis->command('HSET', 'hybrid:revoked', '.seq', 'x', '.version', 'a b',
        'token:one', '');
    ok(wait_until(sub { (revocations($_)->{error} // '')
        =~ /unexpected answer/ }), 'not its state') for @gw;
    entries($n);

    $redis->command('DEL', 'hybrid:revoked');
    $redis->command('RENAME', 'hybrid:kept', 'hybrid:revoked');
    ok(wait_until(sub { !defined revocations($_)->{error} }), 'read again')
        for @gw;
    entries($n);
};


subtest 'fields that no tool makes' => sub {
    $redis->command('HSET', 'hybrid:revoked', "token:a\nb", "c\td\n",
        'x' x 1100, 'long', 'token:long', 'v' x 5000, '', 'empty',
        'token:n', '', "token:\xff", '1');
    my $n = revocations($gw[0])->{entries};
    change('revoke', 'token', 'z1');
    entries($n + 3);
    is(revocations($_)->{error}, undef, 'hold up nothing') for @gw;
    like(listed('list'), qr/^token:a\?b  c\?d\?$/m, 'and are listed');
    $redis->command('DEL', 'hybrid:revoked');
    ok(wait_until(sub { listed('list') =~ /z1/ }), 'written back');
    ok(all_say('one', 401), 'in force');
};


subtest 'as many as there may be' => sub {
    $redis->command('HSET', 'hybrid:revoked', map { ("token:n$_", 'x') }
        1 .. 10000 - (() = listed('list') =~ /\n/g) - 1);
    change('revoke', 'token', 'last');
    entries(10000);
    ok(all_say('one', 401), 'in force');
    like(listed('revoke', 'token', 'one-more'), qr/list is full/, 'no more');
    is($code, 1, 'exit code');

    $redis->command('FLUSHALL');
    ok(wait_until(sub { listed('list') =~ /last/ && (() = $redis->command(
        'HKEYS', 'hybrid:revoked')->[9999]) }), 'all are written back');
    ok(settled(), 'the gateways agree');
    is($redis->command('HLEN', 'hybrid:revoked'), 10004, 'all');
    ok(wait_until(sub { !defined revocations($_)->{error} }), 'no error')
        for @gw;
};


subtest 'a gateway that starts without Redis' => sub {
    my $later = redis(name => 'later', later => 1);
    my $gw = gateway(name => 'cold', workers => 2,
        http => conf($later->{port}));
    ok(wait_until(sub { warned($gw, 'no revocations are known') }), 'warns');
    ok(wait_until(sub { revocations($gw)->{error} }), 'an error is shown');
    ok(!revocations($gw)->{known}, 'nothing is known');
    is(ask($gw, 'one')->{status}, 200, 'nobody is refused');
    is(warned($gw, 'no revocations are known'), 1, 'once');

    $later->start;
    ok(wait_until(sub { revocations($gw)->{known} }), 'then it is');
    is(revocations($gw)->{entries}, 0, 'which');
    tool('revoke', 'client', 'one', '--redis', "127.0.0.1:$later->{port}");
    ok(wait_until(sub { all_say('one', 401, $gw) }), 'in force');
    log_is_clean($gw, qr/\[error\].*redis "/, qr/no revocations are known/);
};


subtest 'the tool' => sub {
    my $cert = join ':', ('Ab') x 32;
    my $hex = 'ab' x 32;

    # who is still there would write it back

    $_->stop for @gw;
    $redis->command('FLUSHALL');

    like(listed('revoke', 'cert', $cert), qr/^revoked cert:$hex: /, 'cert');
    like(listed('revoke', 'cert', $hex), qr/was revoked before: \d{4}-/, 'is');
    is($code, 0, 'no failure');
    change('revoke', 'jti', 'access', 'urn:uuid:1:2');
    change('revoke', 'sub', 'access', 'a.b@c');
    is_deeply([ sort grep { /^[a-z]/ } @{ $redis->command('HKEYS',
        'hybrid:revoked') } ], [ "cert:$hex", 'jti:access:urn:uuid:1:2',
        'sub:access:a.b@c' ], 'in Redis');
    is($redis->command('HGET', 'hybrid:revoked', '.seq'), 3, 'a sequence');

    like(listed('restore', 'token', 'nobody'), qr/is not revoked/, 'unknown');
    is($code, 1, 'a failure');
    is($redis->command('HGET', 'hybrid:revoked', '.seq'), 3, 'no change');

    for my $args ([ 'revoke' ], [ 'revoke', 'ip', '127.0.0.1' ],
        [ qw(revoke token) ], [ qw(revoke token a b) ], [ qw(revoke jti a) ],
        [ qw(restore sub a b c) ], [ 'revoke', 'sub', 'a', 'b|c' ],
        [ 'revoke', 'token', 'a b' ],
        [ 'revoke', 'token', "a\nb" ], [ 'revoke', 'jti', 'a', "\x{1}" ],
        [ 'revoke', 'cert', 'abcd' ], [ 'revoke', 'token', 'a' x 65 ],
        [ qw(list all) ], [ qw(revoke token a --nothing x) ],
        [ qw(restore token a --note x) ], [ qw(revoke token a --note) ],
        [ qw(list --redis nowhere) ], [ qw(list --user me) ],
        [ 'revoke', 'token', 'a', '--note', "a\nb" ])
    {
        local $ENV{REDISCLI_AUTH};
        like(tool(@$args), qr/^hybrid-token: .*usage: /s, "@$args");
        is($code, 2, 'is wrong');
    }

    like(tool('list', '--redis', '127.0.0.1:1'), qr/Connection refused/,
        'no Redis');
    is($code, 1, 'a failure');
    like(tool('list', '--redis', "unix:$redis->{socket}"), qr/^cert:/,
        'a socket');

    change(qw(revoke token other --prefix other: --db 3));
    like(listed(qw(list --prefix other: --db 3)), qr/^token:other /, 'db');

    $redis->command(qw(ACL SETUSER boss reset on >pass:word ~hybrid:revoked
        +eval +hmget +hgetall +hset +hdel +select));
    my $file = spew(dir() . '/password', "pass:word\n");
    like(listed('list', '--user', 'boss', '--password-file', $file),
        qr/^cert:/, 'a user');
    spew($file, 'wrong');
    like(listed('list', '--user', 'boss', '--password-file', $file),
        qr/WRONGPASS/, 'a wrong password');
    is($code, 1, 'a failure');
    local $ENV{REDISCLI_AUTH} = 'pass:word';
    change(qw(revoke token by-boss --user boss));

    my $bin = dir() . '/bin';
    mkdir $bin;
    symlink "/bin/$_", "$bin/$_" for qw(sh cat grep tr);
    local $ENV{PATH} = $bin;
    like(tool('list'), qr/redis-cli is not installed \(Debian: /, 'no client');
    is($code, 1, 'a failure');
};

log_is_clean($_, qr/\[error\].*redis "/, qr/redis has lost \d+ revocations/,
    qr/revocations can't be read/, qr/authentication failures from/,
    qr/\[alert\].*exited on signal 9/) for @gw;
all_ended();
done_testing();
