# Random schedules of faults against a model of the limits, a few of those
# that "make model" runs many of: see t/model.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use Test::More;

my $seconds = 'seconds=2.5';
my @schedules = (
    'limits=rate faults=redis_kill,worker,clock loss=closed gateways=2',
    'limits=rate,concurrency faults=flush,reload loss=closed gateways=3',
    'limits=tokens,concurrency faults=redis_stop,gateway_stop loss=closed',
    'limits=concurrency faults=worker,reload loss=closed gateways=2',
    'limits=rate,tokens faults=empty,worker loss=local gateways=2',
);

# all at the same time: most of it they only wait

my @runs = map { {
    what => $_, output => dir() . "/model.$_",
} } @schedules;

for my $i (0 .. $#runs) {
    $runs[$i]{pid} = HybridRedis::spawn("load model $i", $runs[$i]{output} =
        dir() . "/model$i", $^X, 't/model', 1, $i + 1, $seconds,
        split ' ', $runs[$i]{what});
}

# each of them has processes of its own

END { kill 'TERM', grep { $_ } map { $_->{pid} } @runs }

for my $run (@runs) {
    ok(HybridRedis::ended($run->{pid}, 60), 'ended');
    my $text = slurp($run->{output});
    like($text, qr/^1 schedules, 0 failed$/m, $run->{what}) or diag($text);
    my ($sent, $admitted) = $text =~ /(\d+) sent, (\d+) admitted/;
    cmp_ok($admitted // 0, '>', 0, "$admitted of $sent admitted");
    $run->{pid} = 0;
}

all_ended();
done_testing();
