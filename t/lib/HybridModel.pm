package HybridModel;

# Random schedules against real gateways and a real Redis; see t/model.
#
#   my $result = schedule(SEED, OPTION => VALUE...);
#
# Options: gateways, workers, limits (a list of "rate", "tokens",
# "concurrency"), loss, faults (a list), lossy, seconds; what is not given is
# chosen by the seed.  The result is a hash: violations (text), and figures.
# The seed makes the same schedule again, though not the same race.

use strict;
use warnings;

use Exporter 'import';
use HybridModelCheck;
use HybridModelWorld;
use HybridRedis;
use List::Util qw(min max sum0);
use Time::HiRes 'sleep';

our @EXPORT = qw(schedule end_of_schedules);

our $LATE = 0.5;          # hybrid_redis timeout

my ($faketime) = glob '/usr/lib/*/faketime/libfaketime.so.1';
$faketime = undef if $ENV{ASAN_OPTIONS} || $ENV{TEST_NGINX_LD_PRELOAD};

my @rates = ([ 5, 1 ], [ 10, 5 ], [ 50, 20 ], [ 100, 30 ], [ 200, 50 ]);
my @tokens = ([ 2000, 4000 ], [ 1000, 3000 ], [ 5000, 6000 ],
    [ 20000, 20000 ]);
my @kinds = ([ 'rate' ], [ 'rate' ], [ 'tokens' ], [ 'tokens' ],
    [ 'concurrency' ], [ 'concurrency' ], [ 'rate', 'concurrency' ],
    [ 'tokens', 'concurrency' ], [ 'rate', 'tokens' ],
    [ 'rate', 'tokens', 'concurrency' ]);
my @faults = qw(worker gateway redis_kill redis_stop gateway_stop reload
    clock);
my @losses = qw(flush empty);

my ($backend, $redis);
my $read = 0;


sub choose { return $_[ int rand @_ ] }

sub schedule {
    my ($seed, %o) = @_;
    srand($seed * 2_654_435_761 % 4_294_967_296);

    my %s = (seed => $seed, seconds => $o{seconds} // 3 + rand 2,
        gateways => $o{gateways} // choose(2, 2, 3), workers => $o{workers}
            // 2, loss => $o{loss} // choose('closed', 'closed', 'local'),
        lossy => $o{lossy} // rand() < 0.3, log => [], away => [],
        lost => [], faults => [], kills => [], dead => {});

    $s{limits} = $o{limits} // choose(@kinds);
    $s{queue} = $o{queue} // (rand() < 0.2 ? 1 : 0);
    my %has = map { $_ => 1 } @{ $s{limits} };

    @s{qw(rate burst)} = @{ choose(@rates) } if $has{rate};
    @s{qw(speed most)} = @{ choose(@tokens) } if $has{tokens};
    $s{slots} = 2 + int rand 7 if $has{concurrency};

    my $limits = ($s{rate} ? "rate $s{rate}r/s burst=$s{burst} "
            . "loss=$s{loss}; " : '')
        . ($s{speed} ? 'tokens ' . $s{speed} * 60 . "/m burst=$s{most} "
            . "loss=$s{loss}; " : '')
        . ($s{slots} ? "concurrency $s{slots} loss=$s{loss}; " : '')
        . ($s{queue} ? 'queue 20 timeout=1s; ' : '');
    $s{client} = client_block("m$seed", $limits);
    $s{key} = "hybrid:{m$seed}:limits";
    $s{text} = "$limits$s{gateways} gateways";

    $backend //= model_backend('model');
    $redis //= redis(name => 'model', args => [ '--appendonly', 'yes',
        '--appendfsync', 'no' ]);
    $redis->command('FLUSHALL');
    $s{redis} = $redis;

    my $plan = requests(\%s);
    $s{do} = $o{plan} ? [ map { [ @$_ ] } @{ $o{plan} } ]
        : plan_faults(\%s, $o{faults});

    start_gateways(\%s);

    for my $request (@$plan) { $request->[1] = $s{gw}[ $request->[1] ] }

    my $clients = model_clients($plan);
    $s{begin} = now();
    run_faults(\%s);
    $s{rows} = $clients->results;
    $s{quiet} = now();

    my @violations = quiet(\%s);
    my $events = $backend->events;
    $s{events} = [ @$events[$read .. $#$events] ];
    $read = @$events;

    push @violations, check(\%s), ended(\%s);
    return { %s, violations => \@violations };
}


# at times that come in bursts, somewhat more than is allowed
sub requests {
    my ($s) = @_;
    my $aim = min(120, max(15, 2 * ($s->{rate} // 0),
        $s->{slots} ? 10 * $s->{slots} : 0, ($s->{speed} // 0) / 100));
    my ($at, @plan) = (0.05);

    while ($at < $s->{seconds}) {
        my $n = rand() < 0.1 ? 1 + int rand 12 : 1;

        for (1 .. $n) {
            my $id = "$s->{seed}." . @plan;
            my $most = $s->{most} // 2000;
            my $fill = int rand 400;
            my $predict = 1 + int rand(rand() < 0.08 ? $most / 1.5
                : $most / 8);
            my $body = JSON::PP::encode_json({ model => 'm', stream =>
                JSON::PP::false, messages => [ { role => 'user', content =>
                'x' x $fill } ], options => { num_predict => $predict } });
            my $input = int((length($body) + 3) / 4);
            my $used = choose(int rand $predict, int rand $predict, $predict,
                int($predict * 1.3));
            my $msec = $s->{slots} || rand() < 0.2 ? 10 + int rand 400
                : int rand 30;
            my $stream = rand() < 0.3 ? 1 : 0;
            my $leave = rand() < 0.07 ? 0.002 + rand 0.3 : undef;

            $s->{request}{$id} = { need => min($input + $predict,
                $s->{most} // 1e9), used => $input + $used };
            my $text = post($s->{client}, body => $body)
                =~ s/\r\n/\r\nX-Plan: $id $msec $input $used $stream\r\n/r;
            push @plan, [ $at, int rand $s->{gateways}, $text, $id, $leave ];
        }
        $at += -log(1 - rand) * (0.1 * 6.5 + 0.9) / $aim;
    }
    return \@plan;
}

sub plan_faults {
    my ($s, $kinds) = @_;
    my @kinds = $kinds ? @$kinds : (@faults, $s->{lossy} ? @losses : ());
    my $n = $kinds ? @kinds : 1 + int rand 4;
    my @do;

    for my $i (1 .. $n) {
        my $kind = $kinds ? $kinds[$i - 1] : choose(@kinds);
        $kind = choose(@losses) if $s->{lossy} && !$kinds && $i == 1;
        push @do, [ 0.3 + rand($s->{seconds} - 0.8), $kind,
            int rand $s->{gateways}, 0.05 + rand 1.2 ];
    }
    return \@do;
}


sub start_gateways {
    my ($s) = @_;
    my $root = $ENV{HYBRID_ROOT} || POSIX::getcwd();

    for my $i (0 .. $s->{gateways} - 1) {
        my $rc = spew(dir() . "/clock.$s->{seed}.$i", "+0\n");
        local $ENV{LD_PRELOAD} = $faketime if $faketime;
        local $ENV{FAKETIME_TIMESTAMP_FILE} = $rc;
        local $ENV{FAKETIME_NO_CACHE} = 1;
        local $ENV{FAKETIME_DONT_FAKE_MONOTONIC} = 1;

        push @{ $s->{gw} }, gateway(name => "s$s->{seed}g$i", clock => $rc,
            workers => $s->{workers}, main => $faketime ? join "\n",
                map { "env FAKETIME_$_;" } qw(TIMESTAMP_FILE NO_CACHE
                DONT_FAKE_MONOTONIC) : '',
            http => "hybrid_zone 2m;\n"
                . "hybrid_redis 127.0.0.1:$redis->{port} timeout="
                . 1000 * $LATE . "ms;\n$s->{client}{conf}"
                . "upstream model { zone model 64k; server 127.0.0.1:"
                . "$backend->{port} max_fails=0; }\n"
                . "hybrid_backend model { pass http://model; models *;"
                . " probe off; }\nhybrid_route * model;",
            server => "location = /api/chat { hybrid_access token;\n"
                . "include \"$root/conf/hybrid_proxy.conf\";\n"
                . "proxy_set_header X-Plan \$http_x_plan;\n"
                . "proxy_set_header X-Gateway \"s$s->{seed}g$i \$pid\"; }");
    }

    for my $gw (@{ $s->{gw} }) {
        wait_until(sub { ($gw->status // {})->{redis}{available} })
            or die "$gw->{name} has no Redis";
    }
    return;
}


# -- what happens

sub run_faults {
    my ($s) = @_;
    my @do = sort { $a->[0] <=> $b->[0] } @{ $s->{do} };
    $s->{state} = {};

    while (@do) {
        my ($at, $what, $i, $for) = @{ shift @do };
        my $left = $s->{begin} + $at - now();
        sleep $left if $left > 0;

        my $from = now();
        my $undo = fault($s, $what, $s->{gw}[$i]);
        push @{ $s->{log} }, sprintf '%.2f %s%s', $from - $s->{begin}, $what,
            $what =~ /redis|flush|empty/ ? '' : " $i";
        push @{ $s->{faults} }, [ $from, now(), $what ] if $undo || 1;
        @do = sort { $a->[0] <=> $b->[0] } @do, [ $at + $for, $undo, $i ]
            if $undo;
    }
    return;
}

# gives what has to be done later, if there is something
sub fault {
    my ($s, $what, $gw) = @_;
    my $state = $s->{state};
    my $name = $gw->{name};

    if ($what eq 'redis_kill' || $what eq 'redis_stop') {
        return if $state->{redis}++;
        push @{ $s->{away} }, [ now(), 1e12 ];
        if ($what eq 'redis_stop') { $redis->freeze; return 'redis_thaw' }
        $redis->stop('KILL');
        return 'redis_start';
    }

    if ($what eq 'redis_thaw' || $what eq 'redis_start') {
        if ($what eq 'redis_thaw') { $redis->thaw }
        else { $redis->start or die 'redis does not start' }
        $state->{redis} = 0;
        $s->{away}[-1][1] = now() + 2;
        return;
    }

    if ($what eq 'flush') {
        return if $state->{redis};
        my $from = now();
        $redis->command('FLUSHALL');
        push @{ $s->{lost} }, [ $from, now() ];
        return;
    }

    if ($what eq 'empty') {
        return if $state->{redis};
        my $from = now();
        $redis->stop('KILL');
        my $file = "$redis->{home}/appendonly";
        unlink glob("${file}dir/*"), "$file.aof";
        $redis->start or die 'redis does not start';
        push @{ $s->{lost} }, [ $from, now() ];
        push @{ $s->{away} }, [ $from, now() + 2 ];
        return;
    }

    if ($what eq 'gateway_start') {
        local $ENV{LD_PRELOAD} = $faketime if $faketime;
        local $ENV{FAKETIME_TIMESTAMP_FILE} = $gw->{clock};
        local $ENV{FAKETIME_NO_CACHE} = 1;
        local $ENV{FAKETIME_DONT_FAKE_MONOTONIC} = 1;
        $gw->start or die "$name does not start";
        $state->{$name} = 0;
        return;
    }

    if ($what eq 'gateway_thaw') {
        kill 'CONT', -$gw->{pid};
        $state->{$name} = 0;
        return;
    }

    return if $state->{$name};

    if ($what eq 'worker') {
        my $pid = choose($gw->workers) // return;
        push @{ $s->{kills} }, [ now(), $name, $pid ];
        $s->{dead}{"$name $pid"} = now();
        kill 'KILL', $pid;

    } elsif ($what eq 'gateway') {
        my @pids = $gw->workers(1);
        $state->{$name} = 1;
        push @{ $s->{kills} }, [ now(), $name, 0 ];
        $s->{dead}{"$name $_"} = now() for @pids;
        push @{ $s->{alerts} }, alerts($gw);
        kill 'KILL', -$gw->{pid};
        HybridRedis::ended($gw->{pid}, 15);
        wait_until(sub { !kill 0, -$gw->{pid} }, 5);
        return 'gateway_start';

    } elsif ($what eq 'gateway_stop') {
        $state->{$name} = 1;
        kill 'STOP', -$gw->{pid};
        return 'gateway_thaw';

    } elsif ($what eq 'reload') {
        $gw->hup;

    } elsif ($what eq 'clock') {
        my $jump = choose(-86400, -3600, -7, 5, 60, 3600, 100000);
        spew($gw->{clock}, sprintf "%+d\n", $jump) if $faketime;
    }
    return;
}

sub alerts {
    my ($gw) = @_;
    return grep { /\[(?:alert|crit|emerg)\]|Sanitizer/
        && !/exited on signal 9|connect\(\) .* failed/ }
        split /\n/, slurp($gw->{log});
}


# -- afterwards nothing is in flight, and all of a limit is there again

sub quiet {
    my ($s) = @_;
    my @bad;

    if ($s->{slots}) {
        my %left;
        wait_until(sub { %left = in_flight($s); !%left }, 17, 0.1)
            or push @bad, 'still in flight: ' . join ', ', map {
                "$_ $left{$_}" } sort keys %left;
        $s->{free} = now() - $s->{quiet};
    }

    # debts are two bursts deep at most, and credits go back in a second

    my $full = 2.2 + max(map { $_->[0] ? 2 * $_->[1] / $_->[0] : 0 }
        [ @$s{qw(rate burst)} ], [ @$s{qw(speed most)} ]);
    my $left = $s->{quiet} + $full - now();
    return @bad if $full > 12;
    sleep $left if $left > 0;

    # the rest of a batch may be on its way to another worker

    my $batch = $s->{rate} ? min($s->{rate} / 10, $s->{burst} / 2) : 0;
    my $n = min(map { $_ // 30 } @$s{qw(burst slots)});
    $n = max(1, $n - $s->{workers} * int $batch) if $batch >= 2;
    my $gw = choose(@{ $s->{gw} });
    my $need = $s->{most} ? int(0.9 * $s->{most} / $n) : 60;
    my $body = JSON::PP::encode_json({ model => 'm', options => {
        num_predict => max(1, $need - 40) }, stream => JSON::PP::false });
    my $text = post($s->{client}, body => $body)
        =~ s/\r\n/\r\nX-Plan: after 300 1 1 0\r\n/r;
    my $rows = model_clients([ map { [ 0, $gw, $text, 'after' ] } 1 .. $n ])
        ->results;
    my %n = %{ numbers($rows) };
    push @bad, "after quiet: of $n " . join ', ', map {
        "$n{$_} x $_" } sort keys %n if ($n{200} // 0) != $n;
    push @bad, join ' ', map { "$_->{status} $_->{reason} $_->{limits}," }
        @$rows if @bad;
    return @bad;
}

sub in_flight {
    my ($s) = @_;
    my %left = @{ $redis->command('HGETALL', $s->{key}) // [] };
    my $time = $redis->command('TIME');
    my $now = $time->[0] * 1e6 + $time->[1];

    for my $field (keys %left) {
        my ($n, $until) = split / /, $left{$field};
        delete $left{$field} if $field !~ /^c:/ || $n == 0 || $until <= $now;
    }
    return %left;
}


sub ended {
    my ($s) = @_;
    my @bad;

    for my $gw (@{ $s->{gw} }) {
        $gw->stop or push @bad, "$gw->{name} does not end";
        push @bad, alerts($gw);
    }
    push @bad, @{ $s->{alerts} // [] };
    return @bad;
}

sub end_of_schedules {
    $redis->stop if $redis;
    $backend->stop if $backend;
    ($redis, $backend, $read) = (undef, undef, 0);
    return;
}

1;
