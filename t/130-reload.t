# Reloads, and workers that die, under load.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use Test::More;
use Time::HiRes 'sleep';

my $forge = backend(name => 'forge',
    args => { 'token-ms' => 40, tokens => 20 });
my $redis = redis(name => 'redis');

my %client = map { $_->{name} => $_ }
    client_block('plain', 'rate 2000r/s burst=1000;'),
    client_block('stream', ''),
    client_block('few', 'rate 1r/h burst=10;');

sub conf {
    my ($more) = @_;
    return "hybrid_zone 2m;\n$more\n"
        . join('', map { $_->{conf} } values %client)
        . "upstream forge { zone forge 64k;"
        . " server 127.0.0.1:$forge->{port}; keepalive 8; }\n"
        . "hybrid_backend forge { pass http://forge; models *; }\n"
        . "hybrid_route * forge;\n";
}

# plain requests, streams, and those that have a small limit
sub mixed {
    my ($gw, %o) = @_;
    return load(rate => $o{rate} // 80, %o, request => sub {
        my $n = shift;
        return ($gw, post($client{few}), 'few') if $n % 8 == 7;
        return ($gw, post($client{stream}, stream => 1), 'stream')
            if $n % 8 == 3;
        return ($gw, post($client{plain}, path => '/api/embed', body =>
            '{"model":"bge-m3","input":"hello"}'), 'plain') });
}

sub tagged {
    my ($rows, $tag) = @_;
    return [ grep { $_->{tag} eq $tag } @$rows ];
}

# of the series of a client, all backends and models together
sub counted {
    my ($gw, $client, $outcome, $scope) = @_;
    my $n = 0;
    $n += $_->{requests}{$outcome} for grep { $_->{client} eq $client }
        @{ $gw->status($scope // 'gateway')->{series} };
    return $n;
}


for my $with ('', "hybrid_redis 127.0.0.1:$redis->{port} timeout=2s;") {

    subtest 'HUP every 200 ms' . ($with ? ', with Redis' : '') => sub {
        my $gw = gateway(workers => 2, http => conf($with));
        ok(wait_until(sub { $gw->status->{redis}{available} }), 'Redis')
            if $with;
        my %first = map { $_ => 1 } $gw->workers;

        my $load = mixed($gw);
        sleep 0.3;
        my ($next, $seconds, $reloads) = (now(), $with ? 5 : 10, 0);
        my $end = $next + $seconds;

        while (now() < $end) {
            $gw->hup;
            $reloads++;
            $next += 0.2;
            my $left = $next - now();
            if ($left > 0) { sleep $left } else { $next = now() }
        }

        my $rows = $load->stop;
        my %workers = map { $_->{worker} => 1 } @$rows;
        note(sprintf '%d requests, %d signals, %d workers answered',
            scalar @$rows, $reloads, scalar keys %workers);

        is_deeply([ keys %{ numbers(tagged($rows, $_)) } ], [ 200 ],
            "$_: nothing but 200")
            or diag(explain(numbers(tagged($rows, $_)))) for qw(plain stream);
        cmp_ok(scalar keys %workers, '>', $seconds, 'of many workers');

        # what Redis gave to a worker that ended meanwhile is lost, not more

        my %few = %{ numbers(tagged($rows, 'few')) };
        is_deeply([ sort keys %few ], [ 200, 429 ], 'few: 200 and 429')
            or diag(explain(\%few));
        cmp_ok($few{200}, '<=', 10, "the limit holds: $few{200} of 10");
        cmp_ok($few{200}, '>=', $with ? 8 : 10, 'and is given');

        ok(wait_until(sub { my @left = $gw->workers(1); @left == 2 }),
            'two workers are left');
        is(scalar(grep { $first{$_} } $gw->workers), 0, 'new ones');

        for my $client (qw(plain stream few)) {
            is(counted($gw, $client, 'ok'),
                admitted(tagged($rows, $client)), "$client: all are counted");
        }
        is(counted($gw, 'few', 'limited'), $few{429}, 'so are refusals');

        if ($with) {
            ok(wait_until(sub { counted($gw, 'plain', 'ok', 'all')
                == counted($gw, 'plain', 'ok') }, 5), 'all in Redis')
                or diag(counted($gw, 'plain', 'ok', 'all') . ' of '
                    . counted($gw, 'plain', 'ok'));
            is(counted($gw, 'few', 'limited', 'all'), $few{429}, 'these too');
        }

        log_is_clean($gw);
        my @bad = HybridRedis::slurp($gw->{log})
            =~ /(.*(?:hybrid_zone changed|exited with code [1-9]).*)/g;
        is_deeply(\@bad, [], 'and ended well');
        ok($gw->stop, 'ended');
    };
}


subtest 'a worker is killed' => sub {
    $redis->command('FLUSHALL');
    my $gw = gateway(workers => 2,
        http => conf("hybrid_redis 127.0.0.1:$redis->{port} timeout=2s;"));
    ok(wait_until(sub { $gw->status->{redis}{available} }), 'Redis');

    my $load = mixed($gw, rate => 150);
    my (@killed, %before);
    sleep 1.2;

    for (1 .. 6) {
        $before{$_} = counted($gw, $_, 'ok') for qw(plain stream);
        my ($victim) = $gw->workers;
        push @killed, $victim;
        kill 'KILL', $victim;
        sleep 0.7;
    }

    my $rows = $load->stop;
    my $ok = tagged($rows, 'plain');
    my %n = %{ numbers($rows) };
    my $lost = grep { !$_->{complete} || $_->{error} } @$rows;

    note(explain(\%n));
    is(scalar(grep { !/^(?:200|429)$|^0 |incomplete/ } keys %n), 0,
        'answered, refused or broken') or diag(explain(\%n));

    # a stream lasts for 0.8 s: some 20 are in a worker, and few others

    cmp_ok($lost, '>', 0, "$lost requests were lost with their worker");
    cmp_ok($lost, '<=', 6 * 80, 'no others');
    is(scalar(grep { $_->{error} =~ /timeout/ } @$rows), 0, 'nobody hangs');

    my $late = [ grep { $_->{start} > $rows->[-1]{start} - 0.4 }
        @{ tagged($rows, 'plain') } ];
    is_deeply([ keys %{ numbers($late) } ], [ 200 ], 'all well at the end');

    ok(wait_until(sub { my @left = $gw->workers; @left == 2 }), 'two workers');

    for my $client (qw(plain stream)) {
        my $answered = grep { $_->{complete} && $_->{status} == 200 }
            @{ tagged($rows, $client) };
        my $counted = counted($gw, $client, 'ok');
        cmp_ok($counted, '>=', $before{$client}, "$client: counters are kept");

        # counted after its last byte was sent

        cmp_ok($counted, '>=', $answered - 6, "$counted counted");
        cmp_ok($counted, '<=', $answered + 6, "of $answered answered");
    }

    cmp_ok(admitted(tagged($rows, 'few')), '<=', 10, 'the limit holds');

    my $same = wait_until(sub { counted($gw, 'plain', 'ok', 'all')
        == counted($gw, 'plain', 'ok') }, 5);
    ok($same, 'Redis has all of them') or diag(counted($gw, 'plain', 'ok',
        'all') . ' of ' . counted($gw, 'plain', 'ok'));

    log_is_clean($gw, qr/\[alert\].*exited on signal 9/);
    my @ended = HybridRedis::slurp($gw->{log}) =~ /exited on signal (\d+)/g;
    is_deeply(\@ended, [ (9) x @killed ], 'those that were killed, no other');
    ok($gw->stop, 'ended');
};

subtest 'streams that outlive QUIT' => sub {
    # so short that no answer is waited for when the last stream ends
    my $with = conf("hybrid_redis 127.0.0.1:$redis->{port} timeout=500ms;");
    $redis->command('FLUSHALL');

    my $gw = gateway(workers => 2, http => $with);
    my $before = $forge->mock('stats')->{requests};
    my $load = load(rate => 40, count => 6, request => sub {
        return ($gw, post($client{stream}, stream => 1)) });

    ok(wait_until(sub { $forge->mock('stats')->{requests} == $before + 6 }),
        'they have begun');
    ok($gw->stop, 'ended');

    my $rows = $load->results;
    is_deeply(numbers($rows), { 200 => 6 }, 'to their end');

    my $next = gateway(workers => 1, http => $with);
    is(counted($next, 'stream', 'ok', 'all'), 6, 'and are counted in Redis');
    ok($next->stop, 'ended');
};

all_ended();
done_testing();
