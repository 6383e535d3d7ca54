# hybrid_status and hybrid-ctl tell what is left of a client's limits, and an
# operator gives it back: here, and in all gateways of a Redis.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use JSON::PP qw(decode_json encode_json);
use POSIX ();
use Test::More;
use Time::HiRes 'sleep';

my $tool = ($ENV{HYBRID_ROOT} || '.') . '/tools/hybrid-ctl';
my $redis = redis(name => 'redis');
my $forge = backend(name => 'forge', models => 'mistral:7b',
                    args => { 'token-ms' => 100, tokens => 20 });

my %client = map { $_->{name} => $_ }
    client_block('op', '', verbs => 'read admin'),
    client_block('nosy', ''),
    client_block('hour', 'rate 10r/h burst=3; egress any;'),
    client_block('many', 'rate 100r/h burst=100; tokens 6000/h; concurrency 2;'
        . ' budget 5.00/d; queue 5 timeout=10s; egress any;'),
    client_block('rich', 'tokens 600/d; budget 1/M; egress any;'),
    client_block('free', 'egress any;');
my @names = sort keys %client;

sub conf {
    my ($where, $more) = @_;
    return "hybrid_zone 2m;\n" . ($where ? "hybrid_redis $where"
        . " timeout=1s;\n" : '') . ($more // '') . join('',
        map { $client{$_}{conf} } @names) . <<"END";
    upstream forge { zone forge 64k; server 127.0.0.1:$forge->{port}; }
    hybrid_backend forge { pass http://forge; models mistral*; probe off;
                           egress cloud; price output=100; }
    hybrid_route * forge;
END
}

my $server = <<'END';
    location /hybrid/admin/ { hybrid_access token; hybrid_admin; }
END

my $alone = gateway(name => 'alone', workers => 2, http => conf(''),
                    server => $server, level => 'info');

my ($one, $two) = map { gateway(name => "both$_", workers => 2,
    http => conf("127.0.0.1:$redis->{port}", "hybrid_clients redis;\n"),
    server => $server, level => 'info') } 1, 2;

sub ask {
    my ($gw, $name, %o) = @_;
    return raw_http($gw->{port}, post($client{$name}, body => body(
        'mistral:7b', more => { options => { num_predict => 1 }, %o })));
}

sub limits_of {
    my ($gw, $name) = @_;
    my ($row) = grep { $_->{name} eq $name } @{ $gw->status->{clients} };
    return $row;
}

sub admin {
    my ($gw, $path, %o) = @_;
    my $body = $o{body} ? encode_json($o{body}) : undef;
    my $as = $client{ $o{as} // 'op' };
    my $r = raw_http($gw->{port}, (defined $body ? 'POST' : 'GET')
        . " /hybrid/admin/limits$path HTTP/1.1\r\nHost: x\r\n$as->{headers}"
        . (defined $body ? "Content-Type: application/json\r\n"
           . 'Content-Length: ' . length($body) . "\r\n" : '')
        . "Connection: close\r\n\r\n" . ($body // ''));
    $r->{json} = eval { decode_json($r->{body}) };
    return $r;
}

sub reset_by {
    my ($gw, $name, %o) = @_;
    return admin($gw, '', body => { client => $name, action => 'reset' }, %o);
}

my $code;
sub ctl {
    my ($gw, @args) = @_;
    my $out = dir() . '/tool';
    my $token = HybridRedis::spew(dir() . '/token',
                                  "op.access:$client{op}{secret}\n");
    my $pid = fork // die "fork: $!";

    if (!$pid) {
        delete $ENV{HYBRID_URL};
        open STDOUT, '>', $out;
        open STDERR, '>&', \*STDOUT;
        exec 'sh', $tool, '-t', $token, '-u',
            "http://127.0.0.1:$gw->{port}/hybrid/admin", @args
            or POSIX::_exit(127);
    }

    waitpid $pid, 0;
    $code = $? >> 8;
    return slurp($out);
}

sub statuses {
    my ($gw, $name, $n) = @_;
    my %n;
    $n{ ask($gw, $name)->{status} }++ for 1 .. $n;
    return \%n;
}

ok(wait_until(sub { $_->status->{redis}{available} }), 'Redis is there')
    for $one, $two;


subtest 'the status, of one gateway' => sub {
    ask($alone, 'many') for 1 .. 4;
    my $c = limits_of($alone, 'many');
    my %l = %{ $c->{limits} };

    is_deeply([ sort keys %l ], [ qw(budget concurrency rate tokens) ], 'all');
    is($l{rate}{quota}, 100, 'rate: quota');
    is($l{rate}{window}, 3600, 'window');
    is($l{rate}{burst}, 100, 'burst');
    is($l{rate}{used}, 4, 'used');
    is($l{rate}{left}, 96, 'left');
    is($l{rate}{leased}, 0, 'nothing from a Redis');
    cmp_ok($l{rate}{reset}, '>', 130, 'all of it is there after 4 of 36 s');
    cmp_ok($l{rate}{reset}, '<=', 144, 'not later');
    is($l{tokens}{quota}, 6000, 'tokens: quota');
    cmp_ok($l{tokens}{used}, '>', 0, 'used');
    is($l{budget}{quota}, 5, 'budget: quota');
    is($l{budget}{period}, 'day', 'of a day');
    is($l{budget}{used} + $l{budget}{left}, 5, 'used and left');
    cmp_ok($l{budget}{reset}, '<=', 86400, 'until its end');
    is($l{concurrency}{quota}, 2, 'concurrency');
    is($l{concurrency}{in_flight}, 0, 'none is there');
    is($c->{waiting}, 0, 'and none waits');
    is_deeply(limits_of($alone, 'free')->{limits}, {}, 'who has none');

    my $load = load(rate => 100, count => 5, request => sub {
        return ($alone, post($client{many}, stream => 1)) });
    ok(wait_until(sub {
        $c = limits_of($alone, 'many');
        return $c->{waiting} == 3 && $c->{limits}{concurrency}{in_flight} == 2;
    }), 'two are there, three wait');
    is($c->{limits}{concurrency}{left}, 0, 'no more than two');

    my $text = raw_http($alone->{port}, "GET /hybrid/metrics HTTP/1.1\r\n"
        . "Host: x\r\nConnection: close\r\n\r\n")->{body};
    like($text, qr/^ngx_hybrid_limit_left\{client="many",limit="rate"\} 9\d$/m,
         'Prometheus: left');
    like($text, qr/^ngx_hybrid_limit_quota\{client="many",limit="budget"\} 5/m,
         'quota');
    like($text, qr/^ngx_hybrid_limit_burst\{client="many",limit="rate"\} 100$/m,
         'burst: what can be left');
    like($text, qr/^ngx_hybrid_limit_leased\{client="many",limit="rate"\} 0/m,
         'leased');
    like($text, qr/^ngx_hybrid_limit_waiting\{client="many"\} 3$/m, 'waiting');
    unlike($text, qr/client="free",limit=/, 'nothing of who has none');
    $load->stop;
};


subtest 'who may, and what' => sub {
    is(admin($alone, '?client=many', as => 'nosy')->{status}, 403, 'not all');
    is(reset_by($alone, 'many', as => 'nosy')->{status}, 403, 'nor reset');

    for my $case ([ '', 400 ], [ '?client=', 400 ], [ '?client=a/b', 400 ],
                  [ '?client=' . 'x' x 65, 400 ], [ '?client=nobody', 404 ])
    {
        is(admin($alone, $case->[0])->{status}, $case->[1], "\"$case->[0]\"");
    }

    is(reset_by($_, 'nobody')->{status}, 404, 'nobody') for $alone, $one;
    is(admin($alone, '', body => $_)->{status}, 400, encode_json($_))
        for {}, { client => 'many' }, { client => 'many', action => 'x' },
            { client => 'ma ny', action => 'reset' },
            { client => 'many', action => 'reset', more => 'x' };

    my ($c) = limits_of($alone, 'many');
    cmp_ok($c->{limits}{rate}{used}, '>=', 6, 'nothing was reset');
};


subtest 'a reset without Redis' => sub {
    is_deeply(statuses($alone, 'hour', 5), { 200 => 3, 429 => 2 }, 'used up');
    my $r = reset_by($alone, 'hour');
    is($r->{status}, 200, 'reset') or diag($r->{body});
    is($r->{json}{redis}, 'none', 'by itself');
    is(limits_of($alone, 'hour')->{limits}{rate}{left}, 3, 'all is there');
    is_deeply(statuses($alone, 'hour', 5), { 200 => 3, 429 => 2 }, 'again');
    like(slurp($alone->{log}),
         qr/\[notice\].*limits of client "hour" are reset: by client "op"/,
         'with who it was');
};


subtest 'two gateways: the one that refuses by itself hears of it' => sub {
    is_deeply(statuses($two, 'hour', 4), { 200 => 3, 429 => 1 }, 'used up');
    is(ask($one, 'hour')->{status}, 429, 'on both');

    my $row = limits_of($two, 'hour')->{limits}{rate};
    is($row->{left}, 0, 'the status says so');

    my $said = ctl($one, 'limits', 'hour');
    is($code, 0, 'hybrid-ctl limits') or diag($said);
    like($said, qr/^LIMIT +QUOTA +USED +LEFT +LEASED +RESET +WAITING$/m,
         'a table');
    like($said, qr/^rate +10\/3600s burst=3 +3 +0 +0 +\d+s +0$/m,
         'of what Redis says, of which the first has used nothing');

    $said = ctl($one, 'limits', 'hour', 'reset');
    is($code, 0, 'hybrid-ctl limits reset') or diag($said);
    is($said, "hour: reset (in this gateway, and in the others within a second"
       . " or two)\n", 'it says where');

    my $key = 'hybrid:{hour}:limits';
    is($redis->command('HGET', $key, 'rate'), undef, 'Redis has forgotten');
    like($redis->command('HGET', $key, 'reset'), qr/^\d{16}$/, 'and says when');
    my $ttl = $redis->command('PTTL', $key);
    ok($ttl > 86000000 && $ttl <= 86400000, "for a day: $ttl");

    is(ask($one, 'hour')->{status}, 200, 'the first one at once');
    my $n = 0;
    ok(wait_until(sub { ask($two, 'hour')->{status} == 200 }),
       'the second one soon');
    is_deeply(statuses($two, 'hour', 3), { 200 => 1, 429 => 2 },
              'no more than there was');
    cmp_ok($redis->command('PTTL', $key), '>', 80000000, 'it stays so long');
};


subtest 'what was counted before is not told after' => sub {
    my $key = 'hybrid:{rich}:limits';

    # one that has a debt and an account, and has not heard of it
    ask($two, 'rich', options => { num_predict => 400 }) for 1 .. 3;
    my $used = limits_of($two, 'rich')->{limits}{tokens}{used};
    cmp_ok($used, '>', 60, "$used tokens are used");
    is(reset_by($one, 'rich')->{json}{redis}, 'ok', 'reset');
    my $ttl = $redis->command('PTTL', $key);
    cmp_ok($ttl, '>', 31 * 86400000, 'a budget of a month is remembered');

    is(ask($two, 'rich')->{status}, 200, 'it asks');
    my $left;
    ok(wait_until(sub {
        $left = admin($two, '?client=rich')->{json}{limits}{tokens}{left};
        return $left > 600 - $used;
    }), 'and has forgotten') or diag($left);
    $left = admin($one, '?client=rich')->{json}{limits}{tokens}{left};
    cmp_ok($left, '>', 600 - $used, "$left: so has Redis");
};


subtest 'requests that are under way stay counted' => sub {
    my $load = load(rate => 100, count => 2, request => sub {
        return ($two, post($client{many}, stream => 1)) });
    ok(wait_until(sub {
        limits_of($two, 'many')->{limits}{concurrency}{in_flight} == 2 }),
        'two are there');
    is(reset_by($one, 'many')->{json}{redis}, 'ok', 'reset');
    my @fields = grep { /^c:/ } @{ $redis->command('HKEYS',
                                                   'hybrid:{many}:limits') };
    is(scalar @fields, 1, 'Redis has them');
    is(limits_of($two, 'many')->{limits}{concurrency}{left}, 0, 'no third');
    my $rows = $load->results;
    is_deeply(numbers($rows), { 200 => 2 }, 'they end well');
    ok(wait_until(sub {
        my $l = admin($_, '?client=many')->{json}{limits};
        return $l->{concurrency}{left} == 2
               && $l->{rate}{left} >= 98 && $l->{rate}{left} <= 100;
    }), "$_->{name}: and give back what they had, no more") for $one, $two;
};


subtest 'a client that is in Redis' => sub {
    my $digest = HybridRedis::sha256_hex('s');
    $redis->command('HSET', 'hybrid:client:{guest}', 'token',
        "guest.access sha256:$digest", 'models', '*', 'rate',
        '4r/h burst=2', 'egress', 'any');
    $redis->command('HSET', 'hybrid:identities', 'token:guest.access', 'guest',
                    '.epoch', 'e', '.seq', 1, '.version', 'v');
    $client{guest} = { name => 'guest', headers => "Authorization: Bearer "
                       . "guest.access:s\r\n" };
    is(admin($one, '?client=guest')->{status}, 404, 'not seen so far');
    ok(wait_until(sub { ask($one, 'guest')->{status} == 200 }), 'it is known');
    my $c = limits_of($one, 'guest');
    is($c->{from}, 'redis', 'the status has it');
    is($c->{limits}{rate}{burst}, 2, 'its burst');
    is($c->{limits}{rate}{window}, 3600, 'and window');
    is_deeply(statuses($one, 'guest', 2), { 200 => 1, 429 => 1 }, 'used up');
    is(admin($one, '?client=guest')->{json}{limits}{rate}{left}, 0, 'none');
    is(reset_by($one, 'guest')->{json}{redis}, 'ok', 'reset');
    is_deeply(statuses($one, 'guest', 3), { 200 => 2, 429 => 1 }, 'again');
};


subtest 'Redis is away' => sub {
    $redis->stop;
    ok(wait_until(sub { !$one->status->{redis}{available} }), 'away');
    statuses($one, 'hour', 4);
    my $said = ctl($one, 'limits', 'hour', 'reset');
    is($code, 1, 'a reset is not done everywhere');
    like($said, qr/Redis is away: in this gateway only/, 'and says so');
    is(ask($one, 'hour')->{status}, 200, 'but here');
    $said = ctl($one, 'limits', 'free');
    is($said, "free: no limits\n", 'shown all the same');
    $said = ctl($one, 'limits', 'hour', 'drop');
    is($code, 2, 'no such action');
};


done_testing();
