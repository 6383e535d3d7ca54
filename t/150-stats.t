# Statistics: what is counted, how it is shown, and that gateways add up.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use JSON::PP;
use List::Util qw(max sum0);
use Test::More;
use Time::HiRes 'sleep';

my @outcomes = qw(ok client_error backend_error broken client_closed
    unauthorized denied limited unavailable);
my @timers = qw(request_duration time_to_first_byte connect);

my $forge = backend(name => 'forge', models => 'mistral:7b,llama3:8b');
my $anvil = backend(name => 'anvil', models => 'mistral:7b');
my $redis = redis(name => 'redis');

my %client = map { $_->{name} => $_ }
    client_block('alice', '', models => 'mistral:* llama3:* ghost:*'),
    client_block('bob', 'rate 1r/h burst=2;'),
    client_block('viewer', '', verbs => 'read'),
    client_block('worker', '', verbs => 'inference');

sub conf {
    my ($more) = @_;
    return "hybrid_zone 2m;\n" . ($more // '') . "\n"
        . join('', map { $_->{conf} } values %client)
        . "upstream forge { zone forge 64k; keepalive 8;"
        . " server 127.0.0.1:$forge->{port} max_fails=0; }\n"
        . "upstream anvil { zone anvil 64k; keepalive 8;"
        . " server 127.0.0.1:$anvil->{port} max_fails=0; }\n"
        . "hybrid_backend forge { pass http://forge; probe off; models *; }\n"
        . "hybrid_backend anvil { pass http://anvil; probe off; models *; }\n"
        . "hybrid_route mistral:7b forge anvil;\n"
        . "hybrid_route llama3:8b forge;\n"
        . "hybrid_route * forge;\n";
}

my $protected = "location = /protected/status { hybrid_access token;"
    . " hybrid_status json; }\n"
    . "location = /protected/metrics { hybrid_access token;"
    . " hybrid_status prometheus; }\n";

# "client backend model" => counts that are not 0
sub table {
    my ($status) = @_;
    my %table;

    for my $row (@{ $status->{series} }) {
        my %n = (%{ $row->{requests} }, fallbacks => $row->{fallbacks});
        my $text = join ' ', map { "$_=$n{$_}" } grep { $n{$_} } sort keys %n;
        $table{"$row->{client} $row->{backend} $row->{model}"} = $text
            if length $text;
    }
    return \%table;
}

sub ask {
    my ($gw, $client, %o) = @_;
    return raw_http($gw->{port}, post($client{$client} // $client, %o));
}

sub total {
    my ($gw, $scope, $outcome) = @_;
    my $status = $gw->status($scope) or return -1;
    return -1 if $status->{scope} ne $scope;
    return sum0 map { $_->{requests}{ $outcome // 'ok' } }
        @{ $status->{series} };
}


# Prometheus's text: names => { labels => value }, or what is wrong with it
sub metrics {
    my ($text) = @_;
    my (%metric, %type, @bad, %seen);
    my $name = qr/[a-zA-Z_:][a-zA-Z0-9_:]*/;
    my $label = qr/[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\n"])*"/;

    push @bad, 'no newline at the end' if $text !~ /\n\z/;

    for my $line (split /\n/, $text) {
        if ($line =~ /^# HELP ($name) \S/) {
            push @bad, "twice: $line" if $seen{$line}++;
        } elsif ($line =~ /^# TYPE ($name) (counter|gauge|histogram)$/) {
            push @bad, "twice: $line" if $type{$1};
            $type{$1} = $2;
        } elsif ($line =~ /^($name)(?:\{($label(?:,$label)*)\})? (\S+)$/) {
            my ($n, $labels, $value) = ($1, $2 // '', $3);
            push @bad, "not a number: $line"
                if $value !~ /^[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?$/i;
            push @bad, "twice: $line" if exists $metric{$n}{$labels};
            my $base = $n =~ s/_(?:bucket|sum|count)$//r;
            push @bad, "no type: $line" if !$type{$n} && !$type{$base};
            push @bad, "a counter without _total: $line"
                if ($type{$n} // '') eq 'counter' && $n !~ /_total$/;
            $metric{$n}{$labels} = $value;
        } else {
            push @bad, $line;
        }
    }

    # histograms

    for my $n (grep { $type{$_} eq 'histogram' } sort keys %type) {
        my %rows;
        for my $labels (keys %{ $metric{"${n}_bucket"} }) {
            my ($rest, $le) = $labels =~ /^(.*),le="([^"]+)"$/ or next;
            push @{ $rows{$rest} }, [ $le eq '+Inf' ? 9e99 : $le,
                $metric{"${n}_bucket"}{$labels} ];
        }
        for my $rest (keys %rows) {
            my @row = sort { $a->[0] <=> $b->[0] } @{ $rows{$rest} };
            for (1 .. $#row) {
                push @bad, "$n\{$rest}: not monotonic"
                    if $row[$_][1] < $row[$_ - 1][1];
            }
            push @bad, "$n\{$rest}: no +Inf" if $row[-1][0] != 9e99;
            push @bad, "$n\{$rest}: +Inf is not the count"
                if $row[-1][1] != ($metric{"${n}_count"}{$rest} // -1);
            push @bad, "$n\{$rest}: no sum"
                if !defined $metric{"${n}_sum"}{$rest};
        }
        push @bad, "$n: counts without buckets"
            if keys %rows != keys %{ $metric{"${n}_count"} || {} };
    }

    return (\%metric, \@bad);
}

# of all series
sub scopes {
    my ($metric) = @_;
    my %scopes;

    for my $labels (grep { /\bmodel="/ } map { keys %$_ } values %$metric) {
        my ($scope) = $labels =~ /\bscope="([^"]*)"/;
        $scopes{ $scope // "none: $labels" } = 1;
    }
    return join ' ', sort keys %scopes;
}


subtest 'outcomes, one by one' => sub {
    my $gw = gateway(workers => 2, http => conf(), server => $protected);
    my $status = $gw->status;

    ok($status, 'JSON from the start');
    is($status->{scope}, 'gateway', 'of this gateway');
    like($status->{gateway}, qr/^[0-9a-f]{16}$/, 'with its name');
    is_deeply(table($status), {}, 'nothing counted');
    ok(!$status->{redis}{configured}, 'no Redis');
    my (undef, $bad) = metrics(http($gw, 'GET', '/hybrid/metrics')->{body});
    is_deeply($bad, [], 'metrics of nothing');

    is(ask($gw, 'alice')->{status}, 200, 'ok') for 1 .. 3;
    is(ask($gw, 'alice', stream => 1)->{status}, 200, 'ok, streamed');
    is(ask($gw, 'alice', model => 'llama3:8b')->{status}, 200, 'ok, another');

    $forge->mock('behave', { status => 503, times => 1 });
    is(ask($gw, 'alice')->{status}, 200, 'fallback');

    $forge->mock('behave', { status => 500, times => 1 });
    is(ask($gw, 'alice', model => 'llama3:8b')->{status}, 500,
        'backend_error');

    # nginx itself tries again when it was a connection that it had kept

    $forge->mock('behave', { close_before_header => \1 });
    is(ask($gw, 'alice', model => 'llama3:8b')->{status}, 502,
        'backend_error, no answer');

    $forge->mock('behave', { status => 302, times => 1,
        headers => { Location => '/api/chat' } });
    is(ask($gw, 'alice', model => 'llama3:8b')->{status}, 302,
        'backend_error, a redirect');

    $forge->mock('behave', { status => 422, times => 1 });
    is(ask($gw, 'alice', model => 'llama3:8b')->{status}, 422,
        'client_error');

    $forge->mock('behave', { close_after_tokens => 2, times => 1 });
    ok(!ask($gw, 'alice', model => 'llama3:8b', stream => 1)->{complete},
        'broken');

    $forge->mock('behave', { delay_ms => 2000, times => 1 });
    my $rows = load(rate => 10, count => 1, timeout => 0.4, request => sub {
        return ($gw, post($client{alice}, model => 'llama3:8b')) })->results;
    is($rows->[0]{error}, 'timeout', 'client_closed');

    is(ask($gw, { headers => '' })->{status}, 401, 'unauthorized');
    is(ask($gw, { headers => $client{alice}{headers} =~ s/the-/no-/r })
        ->{status}, 401, 'unauthorized');
    is(ask($gw, 'alice', model => 'secret:1b')->{status}, 403, 'denied');
    is(ask($gw, 'alice', body => '{"model":')->{status}, 400, 'denied');
    is(ask($gw, 'viewer')->{status}, 403, 'denied');
    is(ask($gw, 'bob')->{status}, $_, "bob: $_") for 200, 200, 429, 429, 429;

    my $expect = {
        'alice forge mistral:7b' => 'ok=4',
        'alice anvil mistral:7b' => 'fallbacks=1 ok=1',
        'alice forge llama3:8b' => 'backend_error=3 broken=1 client_closed=1'
            . ' client_error=1 ok=1',
        '- - -' => 'unauthorized=2',
        'alice - other' => 'denied=1',
        'alice - -' => 'denied=1',
        'viewer - -' => 'denied=1',
        'bob forge mistral:7b' => 'ok=2',
        'bob - -' => 'limited=3',
    };

    # a request is counted after its answer is there

    ok(wait_until(sub { my $t = table($gw->status);
        ($t->{'alice forge llama3:8b'} // '') =~ /client_closed/
        && ($t->{'bob - -'} // '') eq $expect->{'bob - -'} }, 5),
        'the one who left is counted, and the last one');

    # a refusal before the model is known may have it or not

    my $table = table($gw->status);
    is_deeply($table, $expect, 'the counts') or diag(explain($table));

    # the same in the other format

    my ($metric, $wrong) = metrics(
        http($gw, 'GET', '/hybrid/metrics')->{body});
    is_deeply($wrong, [], 'metrics parse') or diag(explain($wrong));
    is(scopes($metric), 'gateway', 'of this gateway');
    my %other;
    for my $labels (keys %{ $metric->{ngx_hybrid_requests_total} }) {
        my %l = $labels =~ /(\w+)="([^"]*)"/g;
        $other{"$l{client} $l{backend} $l{model}"}{ $l{outcome} }
            = $metric->{ngx_hybrid_requests_total}{$labels};
    }
    for my $labels (keys %{ $metric->{ngx_hybrid_fallbacks_total} }) {
        my %l = $labels =~ /(\w+)="([^"]*)"/g;
        my $n = $metric->{ngx_hybrid_fallbacks_total}{$labels} or next;
        $other{"$l{client} $l{backend} $l{model}"}{fallbacks} = $n;
    }
    is_deeply({ map { my $n = $other{$_};
        ($_ => join ' ', map { "$_=$n->{$_}" } sort keys %$n) } keys %other },
        $table, 'and are the same');

    for my $format (qw(status metrics)) {
        my $path = "/protected/$format";
        is(http($gw, 'GET', $path)->{status}, 401, "$format: no token, 401");
        is(http($gw, 'GET', $path, $client{worker}{headers})->{status}, 403,
            'no verb "read", 403');
        my $answer = http($gw, 'GET', $path, $client{viewer}{headers});
        is($answer->{status}, 200, 'with it 200');
        is($answer->{headers}{'content-type'}, $format eq 'status'
            ? 'application/json' : 'text/plain; version=0.0.4; charset=utf-8',
            'its type');
        is(http($gw, 'HEAD', $path, $client{viewer}{headers})->{body}, '',
            'HEAD');
        my $post = raw_http($gw->{port}, "POST $path HTTP/1.1\r\nHost: x\r\n"
            . "$client{viewer}{headers}Content-Length: 0\r\n"
            . "Connection: close\r\n\r\n");
        is($post->{status}, 405, 'POST');
    }

    is_deeply(table($gw->status), $expect, 'status requests do not count');

    # who asks for models that do not exist makes no series

    ask($gw, 'alice', model => "ghost:$_") for 1 .. 40;
    ask($gw, 'bob', model => "ghost:$_") for 1 .. 5;
    ask($gw, 'alice', model => "evil$_") for 1 .. 20;
    ask($gw, { headers => "CF-Access-Client-Id: who$_\r\n"
        . "CF-Access-Client-Secret: x\r\n" }) for 1 .. 20;
    $table = table($gw->status);
    is_deeply([ grep { /ghost|evil|who/ } keys %$table ], [],
        'no series of unknown names');
    cmp_ok(scalar keys %$table, '<=', 2 + keys %$expect, 'and few others')
        or diag(explain($table));
    is($table->{'alice forge other'}, 'client_error=40', 'they are "other"');
    is($table->{'alice - other'}, 'denied=21', 'these too');

    log_is_clean($gw, qr/\[error\].*(?:prematurely closed|broken off)/,
        qr/anomaly client_refused/);
    ok($gw->stop, 'ended');
};


subtest 'times' => sub {
    my $slow = backend(name => 'slow', args => { 'prompt-ms' => 100,
        'token-ms' => 20, tokens => 10 });
    my $gw = gateway(workers => 2, http => "hybrid_zone 2m;\n"
        . $client{alice}{conf} . "hybrid_backend slow {"
        . " pass http://127.0.0.1:$slow->{port}; models *; }\n"
        . "hybrid_route mistral:7b slow;\n");

    # 100 ms to the first token, 300 to the last; 4 of 40 take 700 more

    load(rate => 20, count => 36, request => sub {
        return ($gw, post($client{alice}, stream => 1)) })->results;
    $slow->mock('behave', { delay_ms => 700 });
    my $rows = load(rate => 20, count => 4, request => sub {
        return ($gw, post($client{alice}, stream => 1)) })->results;
    is(admitted($rows), 4, 'answered');

    my ($row) = grep { $_->{client} eq 'alice' }
        @{ $gw->status->{series} };
    my %timer = map { $_ => $row->{"${_}_seconds"} } @timers;

    is($timer{$_}{count}, 40, "$_: all") for qw(request_duration
        time_to_first_byte);
    for my $timer (@timers) {
        my $t = $timer{$timer};
        cmp_ok($t->{p50}, '<=', $t->{p95}, "$timer: p50 <= p95");
        cmp_ok($t->{p95}, '<=', $t->{p99}, 'p95 <= p99');
        cmp_ok($t->{sum}, '>=', 0, 'sum');
    }

    # the machine may be slower than that, but not faster

    my %least = (request_duration => { p50 => 0.3, p95 => 0.95, p99 => 0.95,
        sum => 40 * 0.3 + 4 * 0.7 }, time_to_first_byte => { p50 => 0.1,
        p95 => 0.75, p99 => 0.75, sum => 40 * 0.1 + 4 * 0.7 });

    for my $timer (sort keys %least) {
        for my $figure (sort keys %{ $least{$timer} }) {
            my ($got, $least) = ($timer{$timer}{$figure},
                $least{$timer}{$figure});
            cmp_ok($got, '>=', 0.96 * $least, "$timer $figure $got");
            cmp_ok($got, '<=', 1.5 * $least + 0.5, 'plausible');
        }
    }
    cmp_ok($timer{connect}{p99}, '<', 0.5, 'connect');

    my ($metric, $bad) = metrics(http($gw, 'GET', '/hybrid/metrics')->{body});
    is_deeply($bad, [], 'metrics') or diag(explain($bad));
    my $labels = 'client="alice",backend="slow",model="mistral:7b",'
        . 'scope="gateway"';
    my $bucket = $metric->{ngx_hybrid_request_duration_seconds_bucket};
    is($bucket->{"$labels,le=\"0.16\""}, 0, 'none within 160 ms');
    is($bucket->{"$labels,le=\"81.92\""}, 40, 'all within a minute');

    log_is_clean($gw);
    ok($gw->stop, 'ended');
    ok($slow->stop, 'backend ended');
};


subtest 'whose name is kept when it fails' => sub {
    my $gw = gateway(workers => 1, http => "hybrid_zone 2m;\n"
        . $client{alice}{conf} =~ s/models .*;/models *;/r
        . $client{worker}{conf} =~ s/models .*;/models nothing;/r
        . 'hybrid_backend forge { probe off; '
        . "pass http://127.0.0.1:$forge->{port};"
        . ' models listed:1b family*; rename alias:1b mistral:7b; }'
        . 'hybrid_route family* forge; hybrid_route * forge;');

    $forge->mock('behave', { status => 500 });
    is(ask($gw, 'alice', model => $_)->{status}, 500, $_)
        for qw(listed:1b Library/LISTED:1b alias:1b family:1b);
    $forge->mock('behave', { status => 400 });
    ask($gw, 'alice', model => $_) for qw(listed:1b family:2b);
    ask($gw, 'alice', model => 'stranger:1b');
    ask($gw, 'worker', model => $_) for qw(listed:1b alias:1b family:1b);
    $forge->mock('behave', { times => 0 });

    my $table;
    wait_until(sub { $table = table($gw->status);
        $table->{'worker - other'} }, 5);
    is_deeply($table, {
        'alice forge listed:1b' => 'backend_error=2 client_error=1',
        'alice forge alias:1b' => 'backend_error=1',
        'alice forge other' => 'backend_error=1 client_error=1',
        'alice - other' => 'denied=1',
        'worker - listed:1b' => 'denied=1',
        'worker - alias:1b' => 'denied=1',
        'worker - other' => 'denied=1',
    }, 'who is in the configuration, in full') or diag(explain($table));

    log_is_clean($gw);
    ok($gw->stop, 'ended');
};


subtest 'a page that includes it' => sub {
    spew(dir() . '/page.html', '<top><!--#include virtual="/hybrid/status" -->'
        . '<middle><!--#include virtual="/hybrid/metrics" --><bottom>');

    my $gw = gateway(workers => 1,
        http => conf("hybrid_redis 127.0.0.1:$redis->{port} timeout=1s;"),
        server => 'location = /page.html { ssi on; root ' . dir() . '; }');
    wait_until(sub { $gw->status->{redis}{available} });
    my @workers = $gw->workers;

    for (1 .. 3) {
        my $answer = raw_http($gw->{port}, "GET /page.html HTTP/1.1\r\n"
            . "Host: gateway\r\nConnection: close\r\n\r\n", 8);
        ok($answer->{complete}, 'answered');
        like($answer->{body}, qr/^<top>\{"version":.*\}\s*
            <middle>\#\ HELP\ ngx_hybrid.*<bottom>$/xs, 'both are in it');
    }

    is_deeply([ $gw->workers ], \@workers, 'the same worker');
    log_is_clean($gw, qr/\[error\].*redis "/);
    ok($gw->stop, 'ended');
};


subtest 'two gateways' => sub {
    my @save = ('--appendonly', 'yes', '--appendfsync', 'everysec');
    my $kept = redis(name => 'kept', args => [ @save ]);
    my @gw = map { gateway(name => "sum$_", workers => 2, level => 'info',
        http => conf("hybrid_redis 127.0.0.1:$kept->{port} timeout=1s;")) }
        1, 2;
    wait_until(sub { $_->status->{redis}{available} }) for @gw;

    my ($n, @own) = (0, 0, 0);
    my $more = sub {
        my ($count, $rate) = @_;
        my $rows = load(rate => $rate // 200, count => $count,
            request => sub { return ($gw[ $_[0] % 3 ? 0 : 1 ],
                post($client{alice}, path => '/api/show',
                    body => '{"model":"mistral:7b"}')) })->results;
        $n += admitted($rows);
        $own[ $_->{gateway} eq 'sum1' ? 0 : 1 ] += $_->{status} == 200
            for @$rows;
        is(admitted($rows), $count, "$count more");
    };
    my $all = sub {
        my ($what) = @_;
        my @got;
        ok(wait_until(sub {
            @got = map { total($_, 'all') } @gw;
            return $got[0] == $n && $got[1] == $n }, 8), "$what: all $n")
            or diag("got @got");
        is(total($gw[$_], 'gateway'), $own[$_],
            "$what: $own[$_] of gateway $_") for 0, 1;
    };

    $more->(60);
    $all->('both');

    # also when nothing comes any more
    sleep 2.2;
    $all->('and not more with time');

    my ($metric, $bad) = metrics(
        http($gw[0], 'GET', '/hybrid/metrics')->{body});
    is_deeply($bad, [], 'merged metrics') or diag(explain($bad));
    my $labels = 'client="alice",backend="forge",model="mistral:7b"';
    my $ok = "$labels,outcome=\"ok\",scope=";
    is($metric->{ngx_hybrid_requests_total}{"$ok\"all\""}, $n, 'of both');
    is($metric->{ngx_hybrid_request_duration_seconds_count}
        {"$labels,scope=\"all\""}, $n, 'and their times');
    is(scopes($metric), 'all', 'which all lines say');
    ($metric) = metrics(
        http($gw[0], 'GET', '/hybrid/metrics?scope=gateway')->{body});
    is($metric->{ngx_hybrid_requests_total}{"$ok\"gateway\""}, $own[0],
        'of one');
    is(scopes($metric), 'gateway', 'which all lines say');

    # Redis dies under load, and comes back with its file

    my $load = sub { $more->(60, 100) };
    for (1 .. 3) {
        my $pid = fork // die "fork: $!";
        if (!$pid) {
            sleep 0.1 + rand 0.3;
            kill 'KILL', $kept->{pid};
            POSIX::_exit(0);
        }
        $load->();
        waitpid $pid, 0;
        $kept->stop('KILL');
        is(total($gw[0], 'gateway'), $own[0], 'counted while Redis is away');
        is($gw[0]->status('all')->{scope}, 'gateway', 'it says so');
        ok($kept->start, 'Redis is there again');
        $all->('killed and started');
    }

    # slow: the answer to what it has added comes too late

    for my $n (1 .. 3) {
        $kept->freeze;
        $load->();
        sleep 1.3;
        $kept->thaw;
        $all->('too slow');
    }

    # a worker ends while its numbers are on their way

    for my $how ('killed', 'reloaded') {
        $more->(10);
        $all->("before being $how");
        $kept->freeze;
        $more->(30);
        sleep 1.1;
        if ($how eq 'killed') { kill 'KILL', $gw[0]->workers }
        else { $gw[0]->reload }
        $more->(20);
        $kept->thaw;
        $all->($how);
    }

    # a gateway that starts anew has new numbers, and Redis the old

    ok($gw[1]->stop, 'one gateway ends');
    ok($gw[1]->start, 'and starts');
    wait_until(sub { $gw[1]->status->{redis}{available} });
    $own[1] = 0;
    $more->(30);
    $all->('restarted');

    my ($key) = grep { /:stat:forge/ } @{ $kept->command('KEYS', '*') };
    is($key, 'hybrid:{alice}:stat:forge:mistral:7b', 'the key');
    my $left = $kept->command('PTTL', $key);
    cmp_ok($left, '>', 1209600000 - 600000, 'lives for two weeks');
    $left = $kept->command('PTTL', 'hybrid:stats');
    cmp_ok($left, '>', 1209600000 - 600000, 'so does the list of keys');

    # things in Redis that are not ours are not shown

    $kept->command('SADD', 'hybrid:stats', 'x', 'hybrid:{a"b}:stat:c:d',
        'hybrid:{none}:stat:forge:gone', "hybrid:{alice}:stat:\n:\"");
    $kept->command('HSET', 'hybrid:{a"b}:stat:c:d', 'c0', 5);
    $kept->command('HSET', $key, 'c99', 5, 'b0.9999', 5, 'x', 'y', 'c', 1,
        'c1', 'many');
    ok($gw[0]->status('all'), 'still JSON') or diag(http($gw[0], 'GET',
        '/hybrid/status')->{body});
    (undef, $bad) = metrics(http($gw[0], 'GET', '/hybrid/metrics')->{body});
    is_deeply($bad, [], 'and metrics') or diag(explain($bad));
    is(total($gw[0], 'all'), $n, 'with the same numbers');

    log_is_clean($_, qr/\[error\].*redis "/,
        qr/\[alert\].*exited on signal 9/) for @gw;
    ok($_->stop, 'ended') for @gw;
    ok($kept->stop('TERM'), 'Redis ended');
};


subtest 'a client that leaves while the numbers are fetched' => sub {
    my $gw = gateway(workers => 1,
        http => conf("hybrid_redis 127.0.0.1:$redis->{port} timeout=1s;"));
    wait_until(sub { $gw->status->{redis}{available} });
    ask($gw, 'alice');
    my @workers = $gw->workers;

    $redis->freeze;
    load(rate => 500, count => 40, timeout => 0.2, request => sub {
        return ($gw, "GET /hybrid/status HTTP/1.1\r\nHost: x\r\n\r\n") })
        ->results;
    $redis->thaw;
    ok(wait_until(sub { total($gw, 'all') == 1 }, 5), 'well again');
    is_deeply([ $gw->workers ], \@workers, 'the same worker');

    $redis->freeze;
    my $load = load(rate => 500, count => 40, request => sub {
        return ($gw, "GET /hybrid/status HTTP/1.1\r\nHost: x\r\n"
            . "Connection: close\r\n\r\n") });
    my $rows = $load->results;
    $redis->thaw;
    is_deeply(numbers($rows), { 200 => 40 }, 'without Redis: this gateway');
    my ($longest) = sort { $b <=> $a } map { $_->{time} } @$rows;
    cmp_ok($longest, '<', 2.5, 'in time');

    log_is_clean($gw, qr/\[error\].*redis "/);
    ok($gw->stop, 'ended');
};

all_ended();
done_testing();
