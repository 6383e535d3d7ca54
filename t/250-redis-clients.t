# Clients in Redis, for all workers of two gateways: made, changed, dropped,
# and what happens when Redis or the client goes away meanwhile.

use strict;
use warnings;

use lib 't/lib';
use Digest::SHA 'sha256_hex';
use HybridRedis;
use Test::More;
use Time::HiRes 'sleep';

my $root = $ENV{HYBRID_ROOT} || '.';
my $forge = backend(name => 'forge');
my $redis = redis(name => 'redis');
my $file = client_block('file', 'rate 1000r/s burst=1000;');

sub conf {
    my ($more) = @_;
    return "hybrid_zone 2m;\n"
        . "hybrid_redis 127.0.0.1:$redis->{port} timeout=8s;\n"
        . "hybrid_clients redis;\n$file->{conf}" . ($more // '')
        . "upstream forge { zone forge 64k;"
        . " server 127.0.0.1:$forge->{port}; keepalive 8; }\n"
        . "hybrid_backend forge { pass http://forge; models *; }\n"
        . "hybrid_route * forge;\n";
}

sub token {
    my ($id, $secret) = @_;
    return "$id sha256:" . sha256_hex($secret // "the-secret-of-$id");
}

sub headers {
    my ($id, $secret) = @_;
    return { headers => "CF-Access-Client-Id: $id\r\nCF-Access-Client-Secret: "
        . ($secret // "the-secret-of-$id") . "\r\n" };
}

# what it says; its status is in $?
sub tool {
    my (@args) = @_;
    open my $out, '-|', 'sh', '-c', 'exec "$@" 2>&1', 'sh',
        "$root/tools/hybrid-token", @args or die "sh: $!";
    my $text = do { local $/; <$out> } // '';
    close $out;
    return $text;
}

sub client {
    my ($what, @args) = @_;
    return tool('client', $what, @args, '--redis',
        "127.0.0.1:$redis->{port}");
}

sub put {
    my ($name, %field) = @_;
    $field{token} //= token($name);
    $field{models} //= '*';
    my $said = client('put', $name,
        map { my $f = $_; map { "$f=$_" } ref $field{$f} ? @{ $field{$f} }
            : $field{$f} } sort keys %field);
    $? == 0 or diag($said);
    return $? == 0;
}

# as somebody might who does not use the tool
sub raw {
    my ($name, %field) = @_;
    $redis->command('DEL', "hybrid:client:{$name}");
    $redis->command('HSET', "hybrid:client:{$name}", %field);
    $redis->command('HSET', 'hybrid:identities', "token:$name", $name);
    bump();
    return;
}

sub bump {
    $redis->command('HSET', 'hybrid:identities', '.version', rand);
    $redis->command('HSETNX', 'hybrid:identities', '.epoch', 'e');
    $redis->command('HINCRBY', 'hybrid:identities', '.seq', 1);
    return;
}

sub answer {
    my ($gw, $who, %o) = @_;
    return raw_http($gw->{port}, post(ref $who ? $who : headers($who), %o));
}

sub status { return answer(@_)->{status} }

# all workers of these gateways give this status, and nothing else any more
sub all_give {
    my ($what, $gws, $who, $expected, %o) = @_;
    my $from = now();
    my %last;
    my $found = wait_until(sub {
        for my $gw (@$gws) {
            my ($n, %workers) = 0;
            while ($n++ < 4 || keys %workers < $gw->{workers}) {
                my $answer = answer($gw, $who, %o);
                $last{ $gw->{name} } = $answer->{status};
                return 0 if $answer->{status} != $expected || $n > 100;
                $workers{ $answer->{headers}{'x-worker'} } = 1;
            }
        }
        return 1;
    }, 30);
    note(sprintf '%s: after %.2f s', $what, now() - $from);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok($found, "$what: $expected") || diag(explain(\%last));
}

# requests under way, their answers not read yet
sub asked {
    my ($gw, @who) = @_;
    return map {
        my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
            PeerPort => $gw->{port});
        $socket->autoflush(1);
        print $socket post(headers($_));
        $socket } @who;
}

sub statuses {
    my %n;
    for my $socket (@_) {
        local $/;
        my $text = <$socket> // '';
        $n{ $text =~ /^HTTP\S+ (\d+)/ ? $1 : 'none' }++;
    }
    return \%n;
}

sub calls {
    my ($command) = @_;
    my $info = $redis->command('INFO', 'commandstats');
    return $info =~ /^cmdstat_$command:calls=(\d+)/m ? $1 : 0;
}

sub ready {
    my ($gw) = @_;
    return wait_until(sub {
        status($gw, 'nobody') == 401 && $gw->status->{redis}{available} });
}

my @gw = map { gateway(name => "gw$_", workers => 2, listen => 'reuseport',
    http => conf()) } 1, 2;
ok(ready($_), "$_->{name} knows who is there: nobody") for @gw;


subtest 'made, used, changed, dropped' => sub {
    is(status($gw[0], 'bob'), 401, 'not there yet');
    ok(put('bob'), 'put');
    all_give('made', \@gw, 'bob', 200);
    is(status($gw[0], headers('bob', 'wrong')), 401, 'a wrong secret');
    is(status($gw[0], { headers => 'Authorization: Bearer bob:'
        . "the-secret-of-bob\r\n" }), 200, 'as an API key');
    my ($row) = grep { $_->{client} eq 'bob' && $_->{requests}{ok} }
        @{ $gw[0]->status('gateway')->{series} };
    is($row->{backend} // '', 'forge', 'in the statistics');

    ok(put('bob', models => 'bge-m3'), 'other models');
    all_give('models', \@gw, 'bob', 403);
    is(answer($gw[0], 'bob')->{headers}{'x-hybrid-reason'}, 'model_denied',
        'for the model');
    ok(put('bob', models => 'bge-m3 mistral:*'), 'more models');
    all_give('models', \@gw, 'bob', 200);

    ok(put('bob', verbs => 'read'), 'other verbs');
    all_give('verbs', \@gw, 'bob', 403);
    ok(put('bob', verbs => 'inference read'), 'and back');
    all_give('verbs', \@gw, 'bob', 200);

    ok(put('bob', rate => '1r/h burst=2'), 'a limit');
    all_give('rate', \@gw, 'bob', 429);
    my $answer = answer($gw[1], 'bob');
    cmp_ok($answer->{headers}{'retry-after'}, '>', 600, 'Retry-After');
    is($answer->{headers}{'x-hybrid-limits'}, undef, 'decided by Redis');
    is($redis->command('TYPE', 'hybrid:{bob}:limits'), 'hash', 'its bucket');
    ok(put('bob', rate => '1000r/s burst=1000'), 'another limit');
    all_give('rate', \@gw, 'bob', 200);

    ok(put('bob', token => token('bob', 'new')), 'a new secret');
    all_give('the new one', \@gw, headers('bob', 'new'), 200);
    all_give('the old one', \@gw, 'bob', 401);
    ok(put('bob', token => [ token('bob', 'new'), token('bob'),
        token('robert') ]), 'three');
    all_give('the new one', \@gw, headers('bob', 'new'), 200);
    all_give('the old one', \@gw, 'bob', 200);
    all_give('another id', \@gw, 'robert', 200);

    client('drop', 'bob');
    is($?, 0, 'drop');
    all_give('dropped', \@gw, $_, 401) for 'bob', 'robert';
    is($redis->command('EXISTS', 'hybrid:client:{bob}'), 0, 'gone');
};


subtest 'a rate is one for all gateways' => sub {
    ok(put('slow', rate => '1r/h burst=20'), 'put');
    sleep 2.5;    # it is known, but used by nobody
    my $n = numbers(load(rate => 300, count => 60, request => sub {
        return ($gw[ $_[0] % 2 ], post(headers('slow'))) })->results);
    is_deeply($n, { 200 => 20, 429 => 40 }, 'a burst is admitted exactly')
        or diag(explain($n));
};


subtest 'who is asked for, and how often' => sub {
    ok(put('carol'), 'put');
    all_give('made', \@gw, 'carol', 200);
    all_give('none', \@gw, 'nobody', 401);

    my %before = map { $_ => calls($_) } qw(hget hgetall);
    is(status($gw[ $_ % 2 ], "nobody-$_"), 401) for 1 .. 40;
    is(status($gw[ $_ % 2 ], 'carol'), 200) for 1 .. 40;
    is(status($gw[ $_ % 2 ], headers('carol', 'x')), 401) for 1 .. 40;

    # scripts ask for some now and then
    cmp_ok(calls($_) - $before{$_}, '<', 20,
        "no $_ for an unknown id, nor a known client") for sort keys %before;

    # one question a worker, however many wait for it
    ok(put('dave'), 'put');
    my $from = now();
    ok(wait_until(sub { $gw[0]->status; now() - $from > 2.5 }), 'seen');
    $before{hgetall} = calls('hgetall');
    $redis->freeze;
    my @sockets = asked($gw[0], ('dave') x 60);
    my $readable = '';
    vec($readable, fileno $_, 1) = 1 for @sockets;
    is(scalar select($readable, undef, undef, 0.5), 0, 'they wait');
    $redis->thaw;
    is_deeply(statuses(@sockets), { 200 => 60 }, 'all were answered');
    my $asked = calls('hgetall') - $before{hgetall};
    ok($asked == 1 || $asked == 2, "one question a worker: $asked");
};


subtest 'who leaves while waiting' => sub {
    ok(put($_), 'put') for 'erin', 'frank';
    my $from = now();
    wait_until(sub { now() - $from > 2.5 });
    my @workers = $gw[0]->workers;

    $redis->freeze;
    my @sockets = asked($gw[0], ('erin', 'frank') x 6);
    sleep 0.5;
    close $_ for @sockets[ 0 .. 7 ];
    sleep 0.3;
    $redis->thaw;
    is_deeply(statuses(@sockets[ 8 .. 11 ]), { 200 => 4 },
        'the others get an answer');
    is_deeply([ sort $gw[0]->workers ], [ sort @workers ], 'no worker died');

    # the worker leaves
    ok(put('grace'), 'put');
    $from = now();
    wait_until(sub { now() - $from > 2.5 });
    $redis->freeze;
    @sockets = asked($gw[1], ('grace') x 20);
    sleep 0.4;
    $gw[1]->hup;
    sleep 0.4;
    $redis->thaw;
    is_deeply(statuses(@sockets), { 200 => 20 }, 'reload while they wait');
    ok(wait_until(sub { $gw[1]->workers(1) == 2 }), 'old workers end');
};


subtest 'the file wins' => sub {
    ok(put('file', token => token('file2')), 'a name of the files');
    ok(put('heidi', token => [ token('file.access', 'other'),
        token('heidi') ]), 'an id of the files');
    all_give('its own id', \@gw, 'heidi', 200);
    all_give('the id of the name', \@gw, 'file2', 401);
    all_give('the file', \@gw, $file, 200);
    is(status($gw[0], headers('file.access', 'other')), 401,
        'not with the secret in Redis');

    ok(put('ivan'), 'another change');
    all_give('seen', \@gw, 'ivan', 200);

    for my $gw (@gw) {
        my $log = slurp($gw->{log});
        my @name = $log
            =~ /(\[warn\].*client "file" in redis is not used: .*)/g;
        my @id = $log
            =~ /(\[warn\].*token id "file.access" of client "heidi")/g;
        is(scalar @name, 1, "$gw->{name}: said once");
        is(scalar @id, 1, 'of the id as well');
        like($name[0] // '', qr/hybrid_client "file" in \S+nginx.conf:\d+ wins/,
            'and where');
    }

    # a file that comes later
    my $later = client_block('ivan', 'rate 1r/h burst=1;');
    $gw[0]->configure(http => conf($later->{conf}));
    ok($gw[0]->reload, 'reload');
    all_give('the file', [ $gw[0] ], $later, 429);
    all_give('not Redis', [ $gw[0] ], 'ivan', 401);
    all_give('but there', [ $gw[1] ], 'ivan', 200);
    $gw[0]->configure(http => conf());
    ok($gw[0]->reload, 'reload');
    all_give('Redis again', [ $gw[0] ], 'ivan', 200);
};


subtest 'what is no client' => sub {
    my $ok = 'OK';    # the token of its name
    my @bad = (
        [ { token => $ok } => qr/may use no model/ ],
        [ { models => '*' } => qr/no credential/ ],
        [ { token => 'judy sha256:12', models => '*' } => qr/64 hexadecimal/ ],
        [ { token => $ok, models => '*', rate => 'fast' }
            => qr/invalid rate "fast".* in client \S+ in redis:1/ ],
        [ { token => "$ok\n$ok", models => '*' }
            => qr/duplicate token "judy\d+" in client \S+ in redis:2/ ],
        [ { token => $ok, models => '*', surprise => 1 }
            => qr/unknown directive "surprise"/ ],
        [ { token => $ok, models => '*', Models => 'x' } => qr/invalid field/ ],
        [ { token => $ok, models => '*; verbs admin' } => qr/one statement/ ],
        [ { token => $ok, models => '*;}' } => qr/one statement/ ],
        [ { token => $ok, models => '* {' } => qr/unexpected "\{"/ ],
        [ { token => $ok, models => '* # all' } => qr/unexpected end/ ],
        [ { token => $ok, models => '"*' } => qr/unexpected end/ ],
        [ { token => $ok, models => "*\0" } => qr/control characters/ ],
        [ { token => $ok, models => '*', verbs => "read\0" }
            => qr/control characters/ ],
        [ { token => $ok, models => '' } => qr/number of arguments/ ],
        [ { token => $ok, models => '*', include => '/etc/passwd' }
            => qr/unknown directive "include"/ ],
        [ { token => $ok, models => '*', cert => 'subject=CN=x' }
            => qr/"subject=" alone finds nobody/ ],
        [ { token => $ok, models => join ' ', ('a' x 100) x 800 }
            => qr/too large/ ],
        [ { token => $ok, models => '*', egress => 'all' }
            => qr/invalid egress "all"/ ],
    );

    # all of them at once
    my @names = map { "judy$_" } 0 .. $#bad;
    raw($_, token => token($_), models => '*') for 'judy', @names;
    all_give('well', [ $gw[0] ], $_, 200) for 'judy', @names;

    for my $n (0 .. $#bad) {
        my %field = %{ $bad[$n][0] };
        $field{token} =~ s/judy/$names[$n]/g if $field{token};
        $field{token} =~ s/OK/token($names[$n])/ge if $field{token};
        raw($names[$n], %field);
    }

    for my $n (0 .. $#bad) {
        my ($name, $why) = ($names[$n], $bad[$n][1]);
        all_give('refused', [ $gw[0] ], $name, 503);
        like(slurp($gw[0]{log}),
            qr/\[warn\].* client "$name" in redis is refused: .*$why/, 'why');
        is(answer($gw[0], $name)->{headers}{'x-hybrid-reason'},
            'client_unavailable', 'so');
    }

    raw($_, token => token($_), models => '*') for @names;
    all_give('mended', [ $gw[0] ], $_, 200) for @names;
    unlike(slurp($gw[0]{log}), qr/\[emerg\]/, 'no emergency');

    # nor are these
    $redis->command('DEL', 'hybrid:client:{judy}');
    $redis->command('SET', 'hybrid:client:{judy}', 'x');
    bump();
    all_give('another type', \@gw, 'judy', 503);
    $redis->command('DEL', 'hybrid:client:{judy}');
    bump();
    all_give('an identity without a client', \@gw, 'judy', 401);
    $redis->command('HSET', 'hybrid:identities', 'token:judy', 'heidi');
    bump();
    all_give('a client without the identity', \@gw, 'judy', 401);
    $redis->command('HSET', 'hybrid:identities', 'token:judy', '../x');
    $redis->command('HSET', 'hybrid:identities', 'token:', 'heidi');
    $redis->command('HSET', 'hybrid:identities', 'nonsense', 'heidi');
    bump();
    all_give('names that are none', \@gw, 'judy', 401);
    $redis->command('HDEL', 'hybrid:identities', 'token:judy', 'token:',
        'nonsense');
    bump();
};


subtest 'Redis away' => sub {
    ok(put('kim', rate => '1000r/s burst=1000'), 'put');
    ok(put('leo'), 'put');
    all_give('known', \@gw, 'kim', 200);
    sleep 1.5;

    ok($redis->stop, 'killed');
    all_give('who is known', \@gw, 'kim', 200);
    my $answer = answer($gw[0], 'kim');
    is($answer->{headers}{'x-hybrid-limits'}, 'local', 'limits are local');
    all_give('who is not', \@gw, 'leo', 503);
    $answer = answer($gw[0], 'leo');
    is($answer->{headers}{'x-hybrid-reason'}, 'client_unavailable', 'so');
    cmp_ok($answer->{headers}{'retry-after'}, '>=', 1, 'Retry-After');
    all_give('nobody', \@gw, 'nobody', 401);
    all_give('the file', \@gw, $file, 200);

    # and back, without anything
    ok($redis->start, 'started empty');
    for my $gw (@gw) {
        ok(wait_until(sub { slurp($gw->{log}) =~
            /those that are known stay: redis has lost its clients/ }),
            "$gw->{name} says it");
    }
    all_give('who was known', \@gw, 'kim', 200);
    all_give('who was not', \@gw, 'leo', 503);
    ok($gw[0]->reload, 'reload');
    all_give('after a reload nobody is known', [ $gw[0] ], 'kim', 503);

    ok(put('kim'), 'put again');
    all_give('back', \@gw, 'kim', 200);
    all_give('not put again', \@gw, 'leo', 401);
    for my $gw (@gw) {
        my @said = slurp($gw->{log}) =~ /(redis has lost its clients)/g;
        is(scalar @said, 1, 'said once');
    }

    # a worker that starts without Redis
    $redis->stop;
    my $cold = gateway(name => 'cold', workers => 1, http => conf());
    all_give('nothing is known', [ $cold ], 'kim', 503);
    all_give('the file', [ $cold ], $file, 200);
    ok($redis->start, 'started');
    all_give('nobody is there', [ $cold ], 'kim', 401);
    ok(put('kim'), 'put again');
    all_give('back', [ $cold ], 'kim', 200);
    log_is_clean($cold, qr/redis "/, qr/revocations/);
    ok($cold->stop, 'ended');
};


subtest 'a worker that leaves waits for answers, for nothing else' => sub {
    my $gw = gateway(name => 'leaves', workers => 1, http => conf());
    all_give('known', [ $gw ], 'kim', 200);
    my $from = now();
    ok($gw->stop, 'ended');
    cmp_ok(now() - $from, '<', 4, 'at once');
};


log_is_clean($_, qr/authentication failures from/,
    qr/\[warn\].*(?:in redis is|of client "heidi" in redis)/,
    qr/\[error\].*redis "/, qr/redis has lost/) for @gw;
ok($_->stop, "$_->{name} ends") for @gw;
all_ended();
done_testing();
