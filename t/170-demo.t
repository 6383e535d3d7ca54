# The demo of "make run": what it prints works, and nothing of it stays.

use strict;
use warnings;

use lib 't/lib';
use File::Temp;
use HybridRedis;
use POSIX ();
use Test::More;

my $root = $ENV{HYBRID_ROOT} || '.';
my $tmp = File::Temp->newdir;
my $out = "$tmp/out";
mkdir "$tmp/demo" or die $!;

# the nginx under test may be another one than that of the system
my ($sbin) = ($ENV{TEST_NGINX_BINARY} || '') =~ m{(.*)/};

sub start {
    my ($redis_port) = @_;
    my $port = free_port();
    unlink $out;
    my $pid = fork // die "fork: $!";

    if (!$pid) {
        POSIX::setsid();
        $SIG{INT} = 'DEFAULT';
        $ENV{TMPDIR} = "$tmp/demo";
        $ENV{PATH} = "$sbin:$ENV{PATH}" if $sbin;
        $ENV{BUILD} = $ENV{HYBRID_BUILD} if $ENV{HYBRID_BUILD};
        $ENV{HYBRID_DEMO_PORT} = $port;
        $ENV{HYBRID_DEMO_REDIS_PORT} = $redis_port;
        open STDOUT, '>', $out and open STDERR, '>&', \*STDOUT or die $!;
        exec "$root/conf/demo/run" or die $!;
    }

    ok(wait_until(sub { -s $out && slurp($out) =~ /^Ctrl-C/m }), 'it runs')
        or diag(slurp($out));
    return ($pid, $port);
}

# the status lines of the three requests, and all they got
sub answers {
    return map { my $text = `$_ -s 2>&1`; [ $text =~ m{^HTTP/\S+ (\d+)},
                                            $text ] }
           slurp($out) =~ /^(curl .*)$/mg;
}

sub interrupt {
    my ($pid) = @_;
    my $said = length slurp($out);

    kill INT => -$pid;
    waitpid $pid, 0;

    ok(wait_until(sub { !kill 0, -$pid }), 'no process is left');
    is(substr(slurp($out), $said), '', 'and nothing more is said');
    is_deeply([ glob "$tmp/demo/*" ], [], 'nor a file');
    return;
}


subtest 'without Redis' => sub {
    my ($pid, $port) = start(free_port());
    like(slurp($out), qr/^  limits +in shared memory/m, 'in shared memory');

    my @answers = answers();
    is_deeply([ map { $_->[0] } @answers ], [ 200, 403, 200 ],
        'allowed, refused, failed over') or diag(explain(\@answers));
    like($answers[0][1], qr/"done":true/, 'streamed to its end');
    like($answers[1][1], qr/^X-Hybrid-Reason: model_denied\r$/m, 'why');
    like($answers[2][1], qr/^X-Hybrid-Fallback: error\r$/m, 'why');

    # and what an operator is told to try
    my ($url) = slurp($out) =~ /^export (HYBRID_URL=\S+)$/m;
    my @ctl = slurp($out) =~ /^(\S+hybrid-ctl -t .*)$/mg;
    is(scalar @ctl, 3, 'three more');
    like(`$url $ctl[0] --once 2>&1`, qr/^demo +3 +- +1 +1\/3$/m, 'top');
    like(`$url $ctl[1] 2>&1`, qr/forge/, 'explain');
    like(`$url $ctl[2] 2>&1`, qr/^forge: drain /, 'drain');

    my ($page) = slurp($out) =~ /^  status +(\S+)/m;
    like(`curl -s $page`, qr/^<!doctype html>.*<\/html>/s, 'the page');
    like(`curl -s ${page}status`, qr/^\{.*"ok":1/s, 'counted');
    like(`curl -s '$page?data'`, qr/^\{.*"ok":1/s, 'the page sees it too');

    interrupt($pid);
};


subtest 'with Redis' => sub {
    my $redis = redis(name => 'demo');
    $redis->command('SET', 'other', 1);

    my ($pid) = start($redis->{port});
    like(slurp($out), qr/^  limits +in the Redis/m, 'in Redis');
    is((answers())[0][0], 200, 'allowed');
    ok(wait_until(sub { @{ $redis->command('KEYS', 'hybrid-demo:*stat*') } }),
        'counted in Redis');

    interrupt($pid);
    is_deeply($redis->command('KEYS', '*'), [ 'other' ], 'nothing there');
    ok($redis->stop('TERM'), 'Redis ended');
};

all_ended();
done_testing();
