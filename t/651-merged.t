# What three gateways have counted, added up in Redis, against what stands in
# their access logs: counts to the one, quantiles within the histogram's
# error.  And Redis away under load: nothing grows, nothing is lost.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use List::Util qw(max sum0);
use Test::More;
use Time::HiRes 'sleep';

my $forge = backend(name => 'forge', models => 'mistral:7b',
    args => { tokens => 4, 'token-ms' => 2 });
my $redis = redis(name => 'redis');
my $alice = client_block('alice');

my @gw = map { gateway(name => "gw$_", workers => 2, http => <<"END") } 1 .. 3;
    hybrid_zone 2m;
    hybrid_redis 127.0.0.1:$redis->{port} timeout=1s;
    $alice->{conf}
    hybrid_backend forge { pass http://127.0.0.1:$forge->{port}; probe off;
                           models *; }
    hybrid_route * forge;
    log_format timed '\$status \$request_time \$hybrid_outcome '
                     '\$hybrid_output_tokens';
    access_log timed.log timed;
END

# status and time of all that was logged
sub logged {
    return map { my ($status, $time, $outcome, $tokens) = split ' ';
        $outcome eq 'ok' && $tokens ne '-' ? $time : () }
        map { split /\n/, HybridRedis::slurp("$_->{home}/timed.log") } @_;
}

sub quantile {
    my ($q, @values) = @_;
    @values = sort { $a <=> $b } @values;
    my $rank = int($q * @values);
    $rank++ if $rank < $q * @values || $rank == 0;
    return $values[$rank - 1];
}

sub series {
    my ($gw, $scope) = @_;
    my $status = $gw->status($scope) or return;
    return if $status->{scope} ne $scope;
    my ($row) = grep { $_->{client} eq 'alice' && $_->{backend} eq 'forge' }
        @{ $status->{series} };
    return $row;
}

# the start of a request is not the same instant for a log and for us
sub compare {
    my ($row, $what, @times) = @_;
    my $timer = $row->{request_duration_seconds};

    is($timer->{count}, scalar @times, "$what: $timer->{count} of them");
    cmp_ok(abs($timer->{sum} - sum0(@times)), '<=', 0.003 * @times, 'sum');

    for my $case ([ p50 => 0.5 ], [ p95 => 0.95 ], [ p99 => 0.99 ]) {
        my ($name, $q) = @$case;
        my ($got, $raw) = ($timer->{$name}, quantile($q, @times));
        cmp_ok(abs($got - $raw), '<=', $raw / 32 + 0.003,
            "$what $name: $got, by the logs $raw");
    }
}

my $n = 0;

sub some {
    my ($count, $rate) = @_;
    my $rows = load(rate => $rate, count => $count, request => sub {
        return ($gw[ $_[0] % 3 ], post($alice, stream => 1)) })->results;
    is(admitted($rows), $count, "$count answered");
    $n += $count;
}

wait_until(sub { $_->status->{redis}{available} }) for @gw;

for my $delay (0, 20, 50, 110, 260, 700) {
    $forge->mock('behave', { delay_ms => $delay });
    some($delay > 500 ? 12 : 48, 120);
}
$forge->mock('behave', { times => 0 });

subtest 'each gateway' => sub {
    for my $gw (@gw) {
        my @times;
        wait_until(sub { @times = logged($gw); @times == $n / 3 });
        compare(series($gw, 'gateway'), $gw->{name}, @times);
    }
};

subtest 'merged' => sub {
    my $row;
    ok(wait_until(sub { $row = series($gw[0], 'all') or return 0;
        $row->{requests}{ok} == $n }), 'all of them are in Redis');
    compare($row, 'all', logged(@gw));
    is($row->{output_tokens}, 4 * $n, 'tokens');
    is_deeply(series($_, 'all'), $row, "$_->{name} says the same")
        for @gw[1, 2];
};

subtest 'Redis away' => sub {
    my %before = map { $_->{name} => $_->status->{zone} } @gw;
    my @rss = map { memory($_) } @gw;
    my $own = series($gw[0], 'gateway')->{requests}{ok};

    $redis->stop;

    for (1 .. 5) {
        some(150, 400);
        my $row = series($gw[0], 'gateway');
        cmp_ok($row->{requests}{ok}, '>=', $own, 'it counts on');
        $own = $row->{requests}{ok};
        ok(!series($gw[0], 'all'), 'and does not say it is all');
    }

    for my $i (0 .. 2) {
        my $zone = $gw[$i]->status->{zone};
        is($zone->{$_}, $before{ $gw[$i]{name} }{$_}, "$_ is the same")
            for qw(series clients free);
        cmp_ok(memory($gw[$i]) - $rss[$i], '<', 4096, 'memory of workers')
            unless $ENV{ASAN_OPTIONS};      # which keeps what is freed
    }

    # it comes back empty: all gateways add what it does not know
    my ($counts) = $n - 5 * 150;
    ok($redis->start, 'Redis is back');
    my ($row, @seen);
    ok(wait_until(sub { $row = series($gw[0], 'all') or return 0;
        push @seen, $row->{requests}{ok};
        $row->{requests}{ok} == $n - $counts }), 'what it has missed is added')
        or diag("@seen of " . ($n - $counts));
    cmp_ok(max(@seen), '<=', $n - $counts, 'and never more');
};

# kB of a gateway's workers
sub memory {
    my ($gw) = @_;
    return sum0 map { HybridRedis::slurp("/proc/$_/status")
        =~ /^RssAnon:\s+(\d+)/m } $gw->workers;
}

log_is_clean($_, qr/\[error\].*redis "/) for @gw;
ok($_->stop, "$_->{name} ended") for @gw;
$_->stop for $forge, $redis;
all_ended();
done_testing();
