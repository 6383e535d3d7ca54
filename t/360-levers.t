# hybrid_admin and tools/hybrid-ctl: backends are taken out of service and
# back, at once, on all gateways; nothing that was said is forgotten.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use JSON::PP 'decode_json';
use Test::More;
use Time::HiRes 'sleep';

my $tool = ($ENV{HYBRID_ROOT} || '.') . '/tools/hybrid-ctl';
my $redis = redis(name => 'redis');
my $forge = backend(name => 'forge', models => 'mistral:7b',
                    args => { 'token-ms' => 100, tokens => 40 });
my $anvil = backend(name => 'anvil', models => 'mistral:7b');

my $alice = client_block('alice', '', verbs => 'admin');
my $bob = client_block('bob', '');
my $limited = client_block('limited', 'rate 1r/h burst=1;',
                           verbs => 'inference admin');

sub conf {
    my ($more, $where) = @_;
    $where //= "127.0.0.1:$redis->{port}";
    return ($where ? "hybrid_redis $where timeout=500ms;\n" : '')
        . ($more // '') . join('', map { $_->{conf} } $alice, $bob, $limited)
        . <<"END";
    upstream forge { zone forge 64k; server 127.0.0.1:$forge->{port}; }
    upstream anvil { zone anvil 64k; server 127.0.0.1:$anvil->{port}; }
    hybrid_backend forge { pass http://forge; models mistral*; probe off; }
    hybrid_backend anvil { pass http://anvil; models mistral*; probe off; }
    upstream twins { zone twins 64k; server 127.0.0.1:$forge->{port};
                     server 127.0.0.1:$anvil->{port}; }
    hybrid_backend twins { pass http://twins; rename twin mistral:7b;
                           models twin; probe interval=1s; }
    hybrid_route twin twins;
    hybrid_route * forge anvil;
END
}

my $admin = 'location /hybrid/admin/ { hybrid_access token; hybrid_admin; }';
my $zone = "hybrid_zone 4m;\n";

my ($one, $two) = map { gateway(name => "lever$_", workers => 3,
    level => 'info', http => conf($zone), server => $admin) } 1, 2;

# -- asking

sub levers {
    my ($gw, %o) = @_;
    my $client = exists $o{as} ? $o{as} : $alice;
    my $type = $o{type} // 'application/json';
    my $body = $o{body};
    my $head = defined $body ? "Content-Type: $type\r\nContent-Length: "
                               . length($body) . "\r\n" : '';
    my $r = raw_http($gw->{port}, ($o{method} // (defined $body ? 'POST'
        : 'GET')) . ' ' . ($o{path} // '/hybrid/admin/levers')
        . " HTTP/1.1\r\nHost: x\r\n" . ($client ? $client->{headers} : '')
        . "${head}Connection: close\r\n\r\n" . ($body // ''));
    $r->{json} = eval { decode_json($r->{body}) };
    return $r;
}

sub set {
    my ($gw, $state, $backend, %more) = @_;
    return levers($gw, body => JSON::PP::encode_json({
        state => $state, backend => $backend, %more }));
}

sub said {
    my ($gw, $name) = @_;
    my $r = levers($gw);
    my ($row) = grep { $_->{backend} eq $name && !$_->{path} }
                @{ $r->{json}{levers} || [] };
    return $row || {};
}

sub state_is {
    my ($gw, $name, $state) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok(wait_until(sub { (said($gw, $name)->{state} // '') eq $state }),
       "$gw->{name}: $name is at \"$state\"");
    return;
}

sub ask { return raw_http($_[0]{port}, post($bob)) }

# as many as make it likely that each worker was asked
sub all_to {
    my ($gw, $backend) = @_;
    for (1 .. 12) {
        my $r = raw_http($gw->{port}, post($bob, body => body('mistral:7b',
            more => { options => { num_predict => 1 } })));
        return "$r->{status} " . ($r->{headers}{'x-hybrid-backend'} // '-')
            if ($r->{headers}{'x-hybrid-backend'} // '') ne $backend;
    }
    return $backend;
}

# what the tool says; its exit code in $code
my $code;
sub ctl {
    my (@args) = @_;
    my $out = dir() . '/tool';
    my $token = HybridRedis::spew(dir() . '/token',
                                  "alice.access:$alice->{secret}\n");
    my $pid = fork // die "fork: $!";

    if (!$pid) {
        delete $ENV{HYBRID_URL};
        open STDOUT, '>', $out;
        open STDERR, '>&', \*STDOUT;
        exec 'sh', $tool, '-t', $token, @args or POSIX::_exit(127);
    }

    waitpid $pid, 0;
    $code = $? >> 8;
    return slurp($out);
}

sub url { return ('-u', "http://127.0.0.1:$_[0]{port}/hybrid/admin") }

ok(wait_until(sub { levers($_)->{json}{redis} eq 'ok' }), 'Redis is there')
    for $one, $two;


subtest 'a lever holds at once, on all workers, and then everywhere' => sub {
    is(all_to($one, 'forge'), 'forge', 'the first choice');

    my $r = set($one, 'drain', 'forge', reason => 'a "new" disk');
    is($r->{status}, 200, 'drained') or diag($r->{body});
    is($r->{json}{state}, 'drain', 'the answer says what holds');
    is($r->{json}{redis}, 'ok', 'and that Redis has it');
    is(all_to($one, 'anvil'), 'anvil', 'no request goes there any more');

    my $row = said($one, 'forge');
    is($row->{by}, 'alice', 'who');
    is($row->{reason}, 'a "new" disk', 'why');
    like($row->{at}, qr/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, 'when');
    is($row->{unsaved}, undef, 'Redis knows');
    like($redis->command('HGET', 'hybrid:levers', 'forge'),
         qr/^drain \d{13} alice a "new" disk$/, 'as documented');

    state_is($two, 'forge', 'drain');
    is(all_to($two, 'anvil'), 'anvil', 'the other one goes by it');
    is(said($two, 'forge')->{by}, 'alice', 'and says who');

    my $log = slurp($one->{log});
    my $now = 'lever of "forge" is now "drain": set by client "alice"';
    like($log, qr/\[notice\].*$now: a "new" disk/, 'the log has it');
    like(slurp($two->{log}), qr/\[notice\].*$now of another gateway: a "new"/,
         'that of the other one, too');

    $r = ask($one);
    is($r->{headers}{'x-hybrid-fallback'}, 'drained', 'a client sees why');

    is(set($two, 'enable', 'forge')->{status}, 200, 'back, by the other one');
    is(all_to($two, 'forge'), 'forge', 'there at once');
    state_is($one, 'forge', 'enable');
    is(all_to($one, 'forge'), 'forge', 'and on the first');
};


subtest 'the newer word holds' => sub {
    for my $turn (1 .. 4) {
        set($one, 'disable', 'forge');
        set($two, 'drain', 'forge');     # it may not know of the other so far
        set($one, 'enable', 'anvil');
        my @now;
        ok(wait_until(sub {
            @now = map { said($_, 'forge')->{state} } $one, $two;
            return $now[0] eq $now[1]
                && !grep { said($_, 'forge')->{unsaved} } $one, $two;
        }), "turn $turn: both agree") or diag("@now");
    }
    set($_, 'enable', 'forge') for $one, $two;
    state_is($_, 'forge', 'enable') for $one, $two;

    # the clock of the gateway that spoke last was an hour ahead
    my $then = int((time() + 3600) * 1000);
    $redis->command('HSET', 'hybrid:levers', 'forge', "drain $then eve ",
                    '.version', 'x');
    state_is($_, 'forge', 'drain') for $one, $two;
    set($one, 'enable', 'forge');
    state_is($_, 'forge', 'enable') for $one, $two;
    is($redis->command('HGET', 'hybrid:levers', 'forge'),
       'enable ' . ($then + 1) . ' alice ', 'it is later than that');
};


subtest 'streams that have begun are not cut' => sub {
    my @load = map { my $gw = $_; load(rate => 20, count => 4,
        request => sub { ($gw, post($bob, stream => 1)) }) } $one, $two;

    ok(wait_until(sub { $forge->mock('stats')->{active} == 8 }),
       'eight streams are with forge');

    my $said = ctl(url($one), '-r', 'fire', 'disable', 'forge');
    is($code, 0, 'hybrid-ctl disable forge') or diag($said);
    is($said, "forge: disable (it holds in this gateway, and in the others "
       . "within a second)\n", 'it says so');

    state_is($two, 'forge', 'disable');
    is(all_to($_, 'anvil'), 'anvil', "$_->{name}: new ones go to the next")
        for $one, $two;

    $said = ctl(url($one), 'status');
    is($code, 0, 'hybrid-ctl status');
    like($said, qr/^NAME +STATE +REQUESTS +HEALTH +BY +SINCE +REASON$/m,
         'a table');
    like($said, qr/^forge +disable +4 +up +alice +20\S+Z +fire$/m,
         'four are still there');
    like($said, qr/^anvil +enable +0 +up/m, 'anvil');

    $said = ctl(url($one), url($two), '-w', 0, 'wait', 'forge');
    is($code, 1, 'wait ends when it is told to');
    is($said, "hybrid-ctl: forge: still 8 requests there\n", 'it says why');

    $said = ctl(url($one), url($two), 'wait', 'forge');
    is($code, 0, 'wait') or diag($said);
    is($forge->mock('stats')->{active}, 0, 'none is there any more');

    for my $load (@load) {
        my $rows = $load->results;
        is_deeply(numbers($rows), { 200 => 4 }, 'all were answered');
        is(scalar(grep { $_->{complete} && $_->{backend} eq 'forge' } @$rows),
           4, 'to their end, by forge');
    }

    ctl(url($two), 'enable', 'forge');
    is($code, 0, 'the undo');
    state_is($one, 'forge', 'enable');
    is(all_to($_, 'forge'), 'forge', "$_->{name}: back") for $one, $two;
};


subtest 'a path alone' => sub {
    my %at = (forge => $forge, anvil => $anvil);
    my $text = post($bob, body => body('twin',
        more => { options => { num_predict => 1 } }));
    my %path = map { $_ => "127.0.0.1:$at{$_}{port}" } keys %at;

    # which of the two are asked for "twin" by all workers
    my $asked = sub {
        my ($gw) = @_;
        my %n = map { $_ => $at{$_}->mock('stats')->{requests} } keys %at;
        my $not = 0;
        for (1 .. 12) {
            my $r = raw_http($gw->{port}, $text);
            $not++ if $r->{status} != 200;
        }
        return join ' ', ($not ? "$not failed" : ()), grep {
            $at{$_}->mock('stats')->{requests} > $n{$_} } sort keys %at;
    };

    my $row = sub {
        my ($gw, $path) = @_;
        my ($row) = grep { $_->{backend} eq 'twins'
                           && ($_->{path} // '') eq $path }
                    @{ levers($gw)->{json}{levers} };
        return $row;
    };

    is($asked->($one), 'anvil forge', 'both');

    my $r = set($one, 'drain', 'twins', path => $path{forge});
    is($r->{status}, 200, 'one is drained') or diag($r->{body});
    is($r->{json}{name}, "twins|$path{forge}", 'this one');
    ok(wait_until(sub { $asked->($_) eq 'anvil' }), "$_->{name}: the other")
        for $one, $two;
    is($row->($two, $path{forge})->{state}, 'drain', 'it is shown');
    is($row->($two, $path{forge})->{health}, 'up', 'and still probed');
    is(said($two, 'twins')->{state}, 'enable', 'the backend is not drained');

    like(ctl(url($one), 'status'),
         qr{^twins/\Q$path{forge}\E +drain +- +up +alice}m, 'by the tool');

    my $said = ctl(url($one), 'disable', "twins/$path{anvil}");
    is($code, 0, 'the other one by the tool') or diag($said);
    ok(wait_until(sub {
        my $r = raw_http($one->{port}, $text);
        return $r->{status} == 503;
    }), 'none is left: 503');

    ctl(url($two), 'enable', "twins/$path{$_}") for keys %path;
    ok(wait_until(sub { $asked->($_) eq 'anvil forge' }), "$_->{name}: back")
        for $one, $two;

    like(levers($one, body => '{"backend":"twins","path":"1","state":"drain"}')
         ->{body}, qr/there is: \Q$path{forge} $path{anvil}\E"/,
         'paths that there are');
};


subtest 'nobody is left' => sub {
    set($one, 'drain', 'forge');
    set($one, 'disable', 'anvil');
    my $r = ask($one);
    is($r->{status}, 503, 'refused');
    is($r->{headers}{'x-hybrid-reason'}, 'drained', 'with the reason');
    is($r->{headers}{'retry-after'}, 10, 'and Retry-After');
    like($r->{body}, qr/taken out of service/, 'in words');
    cmp_ok($r->{time}, '<', 1, 'at once');

    set($one, 'enable', $_) for 'forge', 'anvil';
    is(all_to($one, 'forge'), 'forge', 'and back');
    state_is($two, $_, 'enable') for 'forge', 'anvil';
};


# what alerts look at
subtest 'paths of a backend that is taken out' => sub {
    my $states = sub {
        my ($b) = grep { $_->{name} eq 'twins' }
                  @{ $one->status->{backends} };
        return join ' ', map { $_->{state} } @{ $b->{paths} };
    };

    ok(wait_until(sub { $states->() eq 'up up' }), 'up');
    set($one, 'disable', 'twins');
    is($states->(), 'disabled disabled', 'are disabled, too');
    set($one, 'disable', 'twins', path => "127.0.0.1:$forge->{port}");
    set($one, 'drain', 'twins');
    is($states->(), 'disabled drained', 'or what is stricter');
    set($one, 'enable', 'twins');
    set($one, 'enable', 'twins', path => "127.0.0.1:$forge->{port}");
    is($states->(), 'up up', 'and up again');
};


subtest 'who may, and what' => sub {
    my $body = '{"backend":"forge","state":"drain"}';
    my @no = (
        [ 401, 'unauthenticated', 'nobody', as => undef ],
        [ 403, 'endpoint', 'a client without the verb', as => $bob ],
        [ 401, 'unauthenticated', 'nobody reads', as => undef, body => undef ],
        [ 403, 'endpoint', 'reading needs it, too', as => $bob,
          body => undef ],
        [ 405, 'method', 'PUT', method => 'PUT' ],
        [ 405, 'method', 'DELETE', method => 'DELETE' ],
        [ 404, 'not_found', 'another name', path => '/hybrid/admin/lever' ],
        [ 404, 'not_found', 'the location', path => '/hybrid/admin/' ],
        [ 415, 'content_type', 'a form', type => 'text/plain' ],
        [ 413, 'body_too_large', 'a large body', body => $body . ' ' x 4096 ],
        (map { [ 400, 'invalid_body', $_, body => $_ ] } '', '[]', '{}',
            '{"backend":"forge"}', '{"state":"drain"}',
            '{"backend":"forge","state":"drained"}',
            '{"backend":"forge","state":"drain"}x',
            '{"backend":"forge","state":"drain","paht":"127.0.0.1:1"}',
            '{"backend":"forge","state":"drain","path":""}',
            '{"backend":"forge","state":"drain","path":null}',
            '{"backend":"forge","state":"drain","state":"enable"}',
            '{"backend":"forge","state":"drain","State":"enable"}',
            '{"backend":["forge"],"state":"drain"}',
            '{"backend":"' . 'x' x 65 . '","state":"drain"}',
            '{"backend":"forge","state":"drain","reason":"a\nb"}',
            '{"backend":"forge","state":"drain","reason":"' . 'x' x 201
            . '"}'),
        [ 404, 'unknown_name', 'an unknown backend',
          body => '{"backend":"Forge","state":"drain"}' ],
        [ 404, 'unknown_name', 'an unknown path',
          body => '{"backend":"forge","path":"10.0.0.1:1","state":"drain"}' ],
    );

    for my $case (@no) {
        my ($status, $reason, $name, %o) = @$case;
        $o{body} = $body if !exists $o{body};
        my $r = levers($one, %o);
        is($r->{status}, $status, $name) or diag($r->{body});
        is($r->{headers}{'x-hybrid-reason'}, $reason, "$name: $reason");
        like($r->{body}, qr/^\{"error":/, "$name: an error as elsewhere");
    }

    like(levers($one, body => '{"backend":"x","state":"drain"}')->{body},
         qr/"x\\" is not known; there is: forge anvil twins"/,
         'the names that there are');
    is(said($one, 'forge')->{state}, 'enable', 'nothing was changed');

    for (1 .. 3) {
        is(levers($one, as => $limited)->{status}, 200, 'no limit holds here');
    }

    my $r = levers($one, method => 'HEAD');
    is($r->{status}, 200, 'HEAD');
    is($r->{body}, '', 'without a body');
};


subtest 'the tool' => sub {
    my @u = url($one);

    like(ctl('--help'), qr/^usage: hybrid-ctl/, '--help');
    is($code, 0, 'is fine');

    for my $wrong ([], ['explode'], ['drain'], ['drain', 'a b'],
                   ['drain', 'forge', 'anvil'], ['wait', 'forge/1'],
                   ['-u', 'forge', 'status'], ['-u'], ['--loud', 'status'],
                   ['-w', 'x', 'wait', 'forge'], ['drain', "forge\nx"]) {
        ctl(@$wrong);
        is($code, 2, "wrong usage: @$wrong");
    }

    like(ctl(@u, 'drain', 'nobody'), qr/404.*nobody.* is: forge anvil twins/,
         'an unknown backend');
    is($code, 1, 'fails');
    like(ctl(@u, 'wait', 'nobody'), qr/no backend "nobody"/, 'wait, too');
    is($code, 1, 'fails');
    ctl(@u, '-r', 'x' x 201, 'drain', 'forge');
    is($code, 1, 'a reason that is too long');

    my $gone = HybridRedis::free_port();
    my $said = ctl('-u', "http://127.0.0.1:$gone/", @u, '-r', 'a\b"c', 'drain',
                   'anvil');
    is($code, 1, 'one of two is not reachable');
    is(said($one, 'anvil')->{state}, 'drain', 'the other one was told');
    is(said($one, 'anvil')->{reason}, 'a\b"c', 'any reason');
    ctl(@u, 'enable', 'anvil');
    is($code, 0, 'enable');

    my $bad = HybridRedis::spew(dir() . '/bad', "alice.access:wrong\n");
    $said = ctl('-t', $bad, @u, 'status');
    is($code, 1, 'a wrong token');
    like($said, qr/401/, 'is told');
    unlike($said, qr/wrong/, 'and the secret is not');
    $bad = HybridRedis::spew(dir() . '/bad', "no-secret\n");
    unlike(ctl('-t', $bad, @u, 'status'), qr/no-secret/, 'nor is a bad file');
    is($code, 1, 'which fails');
};


subtest 'a reload, a restart' => sub {
    state_is($two, 'forge', 'enable');
    set($one, 'drain', 'forge', reason => 'kept');
    ok($one->reload, 'reloaded');
    is(all_to($one, 'anvil'), 'anvil', 'it holds after a reload');
    is(said($one, 'forge')->{reason}, 'kept', 'with its reason');

    state_is($two, 'forge', 'drain');
    $two->stop('TERM');
    ok($two->start, 'restarted');
    state_is($two, 'forge', 'drain');
    is(all_to($two, 'anvil'), 'anvil', 'it holds after a restart');

    # a backend that comes later
    $one->configure(http => conf("hybrid_zone 4m;\n") =~ s/forge/smithy/gr
                            =~ s/enable//r);
    ok($one->reload, 'without forge');
    is(all_to($one, 'smithy'), 'smithy', 'another one is not concerned');
    $one->configure(http => conf("hybrid_zone 5m;\n"));
    ok($one->reload, 'forge again, in a new zone');
    state_is($one, 'forge', 'drain');

    set($one, 'enable', 'forge');
    state_is($_, 'forge', 'enable') for $one, $two;
};


subtest 'Redis away, and without its data' => sub {
    $redis->stop;
    ok(wait_until(sub { levers($_)->{json}{redis} eq 'away' }),
       "$_->{name} sees that Redis is away") for $one, $two;

    my $r = set($one, 'drain', 'forge');
    is($r->{status}, 200, 'a lever is taken');
    is($r->{json}{redis}, 'away', 'the answer says that others do not know');
    like($r->{json}{message}, qr/the others don't know so far/, 'in words');
    is(all_to($one, 'anvil'), 'anvil', 'it holds here');
    ok(said($one, 'forge')->{unsaved}, 'and is shown as not written');
    is(all_to($two, 'forge'), 'forge', 'not there');

    my $said = ctl(url($one), 'drain', 'forge');
    is($code, 0, 'the tool takes it as done');
    like($said, qr/warning: .*don't know so far/, 'with a warning');
    ok($one->reload, 'a reload meanwhile');
    is(all_to($one, 'anvil'), 'anvil', 'changes nothing');

    ok($redis->start, 'Redis is back, empty');
    state_is($two, 'forge', 'drain');
    is(all_to($two, 'anvil'), 'anvil', 'now it holds there, too');
    ok(wait_until(sub { !said($one, 'forge')->{unsaved} }), 'and is written');
    ok(wait_until(sub { $redis->command('HGET', 'hybrid:levers', 'anvil') }),
       'so is what was known before');

    $redis->command('FLUSHALL');
    ok(wait_until(sub { $redis->command('HGET', 'hybrid:levers', 'forge') }),
       'data that is lost is written again');

    # something else is under the key
    $redis->command('DEL', 'hybrid:levers');
    $redis->command('SET', 'hybrid:levers', 'x');
    ok(wait_until(sub { levers($one)->{json}{redis} eq 'away' }),
       'a key of another type');
    is(set($one, 'enable', 'forge')->{json}{redis}, 'away', 'is told');
    is(all_to($one, 'forge'), 'forge', 'it holds here');
    $redis->command('DEL', 'hybrid:levers');
    state_is($two, 'forge', 'enable');

    # nonsense is passed over
    my $now = time() * 1000 + 5000;
    $redis->command('HSET', 'hybrid:levers', 'forge|', "drain $now eve x",
        'anvil', "explode $now eve x", 'x' x 300, "drain $now eve x",
        "a\nb", "drain $now eve x", 'forge', "drain x$now eve x",
        '.version', 'nonsense');
    $redis->command('HSET', 'hybrid:levers', 'unknown', "drain $now eve x",
                    '.version', 'more');
    ok(wait_until(sub { slurp($two->{log}) =~ /entries that are no levers/ }),
       'it is told of');
    state_is($_, 'forge', 'enable') for $one, $two;
    state_is($_, 'anvil', 'enable') for $one, $two;
};


subtest 'without Redis' => sub {
    my $alone = gateway(name => 'alone', workers => 2,
        http => conf($zone, ''), server => $admin);
    is(levers($alone)->{json}{redis}, 'none', 'there is none');
    my $r = set($alone, 'disable', 'forge');
    is($r->{json}{redis}, 'none', 'the answer says so');
    is(all_to($alone, 'anvil'), 'anvil', 'it holds');
    ok($alone->reload, 'reloaded');
    is(all_to($alone, 'anvil'), 'anvil', 'it holds after that');
    ok($alone->stop, 'stopped');
};

ok($_->stop, "$_->{name} ends") for $one, $two;
log_is_clean($_, qr/redis|levers can't be read|that are no levers/,
             qr/hybrid_zone changed|no live upstreams/) for $one, $two;

done_testing;
