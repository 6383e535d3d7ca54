# A limit while something changes: an idle client that comes back, a rate that
# is raised, a clock that was wrong, Redis that goes when a client has used up
# what it had.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use Test::More;
use Time::HiRes 'sleep';

my $redis = redis(name => 'redis');
my $with = "hybrid_redis 127.0.0.1:$redis->{port} timeout=2s;";

sub conf {
    my ($more, @clients) = @_;
    return "hybrid_zone 2m;\n$more\n" . join('', map { $_->{conf} } @clients)
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

sub one {
    my ($gw, $client) = @_;
    return raw_http($gw->{port}, ask($client));
}

sub at_once {
    my ($gw, $client, $n) = @_;
    return load(rate => 1e6, count => $n, request => sub {
        return ($gw, ask($client)) })->results;
}

# until its workers have a connection: no request is made for that
sub ready {
    my ($gw) = @_;
    return wait_until(sub { $gw->status->{redis}{available} });
}

# How many more than burst + rate x t were admitted in any span of time.  What
# begins and ends in it was decided in it, by a clock that is late by 10 ms at
# most.
sub excess {
    my ($rows, $rate, $burst) = @_;
    my @ok = sort { $a->{end} <=> $b->{end} } grep { $_->{status} eq '200' }
        @$rows;
    my $most = -$burst;

    for my $first (@ok) {
        my $n = 0;
        for my $last (grep { $_->{start} >= $first->{start} } @ok) {
            my $time = $last->{end} - $first->{start} + 0.01;
            my $more = ++$n - $burst - int($rate * $time);
            $most = $more if $more > $most;
        }
    }
    return $most;
}


subtest 'a configuration that fails' => sub {
    my $strict = client_block('strict', 'rate 1r/h;');
    my $free = { %$strict, conf => $strict->{conf} =~ s/rate 1r\/h;//r };
    my $gw = gateway(workers => 2, http => conf('', $strict));
    my @old = sort $gw->workers;
    is_deeply([ map { one($gw, $strict)->{status} } 1, 2 ], [ 200, 429 ],
        'one an hour');

    my $taken = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1',
        LocalPort => free_port()) or die "listen: $!";
    $gw->configure(http => conf('', $free) . 'server { listen 127.0.0.1:'
        . $taken->sockport . '; }');
    $gw->hup;
    ok(wait_until(sub { slurp($gw->{log}) =~ /still could not bind/ }),
        'no limit any more, and a port that is taken');
    is_deeply([ map { one($gw, $strict)->{status} } 1 .. 4 ], [ (429) x 4 ],
        'the old limit holds');
    is_deeply([ sort $gw->workers ], \@old, 'in the old workers');

    ok($gw->stop, 'ended');
    log_is_clean($gw, qr/bind\(\)|could not bind/);
};


my $idle = client_block('idle', 'rate 100r/s burst=10;');

for my $workers (1, 2) {

    subtest "idle, then a burst, workers: $workers" => sub {
        my $gw = gateway(workers => $workers, listen => 'reuseport',
            http => conf($with, $idle));
        ok(ready($gw), 'Redis is there');

        for my $round (1 .. 3) {
            my $rows = at_once($gw, $idle, 1);
            is_deeply(numbers($rows), { 200 => 1 }, 'one request');

            # what it has leased is still good, its bucket empty again

            sleep 0.5;
            push @$rows, @{ at_once($gw, $idle, 60) };
            my $n = admitted($rows) - 1;
            my $excess = excess($rows, 100, 10);
            cmp_ok($excess, '<=', 0, "$n of 60, $excess more than the limit");

            # one worker may refuse what is on its way to the other one

            cmp_ok($n, '>=', 9, 'and the burst');
            sleep 0.2;
        }

        log_is_clean($gw);
        ok($gw->stop, 'ended');
    };
}


for my $where ('', $with) {

    subtest 'a raised rate' . ($where ? ', with Redis' : '') => sub {
        my ($old, $new) = map { client_block('raised', $_) }
            'rate 1r/d burst=2;', 'rate 100r/s burst=100;';
        my $gw = gateway(workers => 2, http => conf($where, $old));
        ok(ready($gw), 'Redis is there') if $where;

        is_deeply(numbers(at_once($gw, $old, 6)), { 200 => 2, 429 => 4 },
            'used up');
        cmp_ok(one($gw, $old)->{headers}{'retry-after'}, '>', 86000,
            'for a day');

        $gw->configure(http => conf($where, $new));
        ok($gw->reload, 'reloaded');
        ok(ready($gw), 'Redis is there') if $where;

        # Redis cuts its bucket when it is asked, and that was a "no"

        my @answers = map { sleep 0.03; one($gw, $new) } 1 .. 12;
        my @status = map { $_->{status} } @answers;

        if ($where && $status[0] == 429) {
            is($answers[0]{headers}{'retry-after'}, 1, 'Retry-After');
            shift @status;
        }
        is(scalar(grep { $_ != 200 } @status), 0, "passes: @status");

        # and what is lowered is not given away

        $gw->configure(http => conf($where, $old));
        ok($gw->reload, 'reloaded');
        ok(ready($gw), 'Redis is there') if $where;
        cmp_ok(admitted(at_once($gw, $old, 20)), '<=', 2, 'the old one');

        log_is_clean($gw);
        ok($gw->stop, 'ended');
    };
}


subtest 'a clock of Redis that was set back' => sub {
    my $clock = client_block('clock', 'rate 100r/s burst=100;');
    my $key = 'hybrid:{clock}:limits';
    my $gw = gateway(workers => 2, http => conf($with, $clock));
    ok(ready($gw), 'Redis is there');

    my $now = sub { my $t = $redis->command('TIME'); $t->[0] * 1e6 + $t->[1] };
    $redis->command('HSET', $key, 'rate', sprintf '%.0f', $now->() + 3600e6);

    my $from = now();
    ok(wait_until(sub { one($gw, $clock)->{status} == 200 }),
        sprintf 'passes after %.2f s, not in an hour', now() - $from);

    my $ahead = ($redis->command('HGET', $key, 'rate') - $now->()) / 1e6;
    cmp_ok($ahead, '<=', 1, sprintf 'its bucket is %.3f s ahead', $ahead);
    my $left = $redis->command('PTTL', $key);
    cmp_ok($left, '>', 0, 'and ends by itself');
    cmp_ok($left, '<=', 2000, "in $left ms");

    # it was cut to a full one: no burst is left

    my $rows = at_once($gw, $clock, 150);
    my $most = 1 + int(100 * (now() - $from + 0.01));
    cmp_ok(admitted($rows), '<=', $most, admitted($rows) . ' of 150');

    log_is_clean($gw);
    ok($gw->stop, 'ended');
};


subtest 'Redis goes when a client was limited' => sub {
    $redis->command('FLUSHALL');
    my %client = map { $_ => client_block($_, "rate 1r/h loss=$_;") }
        qw(open closed local);
    my $leased = client_block('leased', 'rate 100r/s burst=100 loss=closed;');
    my $gw = gateway(workers => 2, listen => 'reuseport',
        http => conf($with, $leased, values %client));
    ok(ready($gw), 'Redis is there');

    for my $name (sort keys %client) {
        my $rows = at_once($gw, $client{$name}, 10);
        is_deeply(numbers($rows), { 200 => 1, 429 => 9 }, "$name: used up");
        is(scalar(grep { $_->{limits} } @$rows), 0, 'by Redis');
    }

    is(one($gw, $leased)->{status}, 200, 'one that has credits left');

    $redis->stop('KILL');
    ok(wait_until(sub {
        2 == (() = slurp($gw->{log}) =~ /is away/g) }), 'Redis is gone');

    my $answer = one($gw, $leased);
    is($answer->{status}, 503, 'which are worth nothing now');
    is($answer->{headers}{'x-hybrid-limits'}, 'closed', 'X-Hybrid-Limits');

    my %want = (open => 200, closed => 503, local => 429);

    for my $name (sort keys %client) {
        my $rows = at_once($gw, $client{$name}, 10);
        my %mark = map { $_->{limits} => 1 } @$rows;
        is_deeply(numbers($rows), { $want{$name} => 10 }, "loss=$name");
        is_deeply([ keys %mark ], [ $name ], 'X-Hybrid-Limits');
    }

    $answer = one($gw, $client{local});
    is($answer->{headers}{'x-hybrid-reason'}, 'rate_limited', 'reason');
    cmp_ok($answer->{headers}{'retry-after'}, '>', 3500, 'Retry-After');

    log_is_clean($gw, qr/redis ".*is away/);
    ok($gw->stop, 'ended');
};

all_ended();
done_testing();
