# Redis that stops, dies, comes back, was never there: requests go on, and
# limits hold as "loss=" says.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use Test::More;
use Time::HiRes 'sleep';

use constant { TIMEOUT => 0.1, SLACK => 1.0 };

my $forge = backend(name => 'forge');
my $redis = redis(name => 'redis');

my %client = map { $_->{name} => $_ }
    client_block('busy', 'rate 50r/s burst=10;'),
    client_block('open', 'rate 1r/m burst=3 loss=open;'),
    client_block('closed', 'rate 1r/m burst=3 loss=closed;'),
    client_block('local', 'rate 1r/m burst=3 loss=local;'),
    client_block('crowd', 'rate 1000r/s burst=1000;'),
    client_block('free', '');

sub conf {
    my ($where) = @_;
    return "hybrid_zone 2m;\nhybrid_redis $where timeout=100ms;\n"
        . join('', map { $_->{conf} } values %client)
        . "upstream forge { zone forge 64k;"
        . " server 127.0.0.1:$forge->{port}; keepalive 8; }\n"
        . "hybrid_backend forge { pass http://forge; models *; }\n"
        . "hybrid_route * forge;\n";
}

my $where = "127.0.0.1:$redis->{port}";
my @expected = (qr/\[error\].*redis "/);

sub limits {
    my ($gw, $name) = @_;
    my $answer = raw_http($gw->{port}, post($client{$name}));
    return ($answer->{status}, $answer->{headers}{'x-hybrid-limits'} // '-',
        $answer);
}

# seconds until a request is decided by Redis again
sub recovered {
    my ($gw) = @_;
    my $from = now();
    wait_until(sub { (limits($gw, 'busy'))[1] eq '-' }, 10, 0.05) or return 99;
    return now() - $from;
}

sub longest {
    my ($longest) = sort { $b <=> $a } 0, map { $_->{time} } @{ $_[0] };
    return $longest;
}

my @gw = map { gateway(name => "away$_", workers => 2, http => conf($where)) }
    1, 2;
wait_until(sub { $_->status->{redis}{available} }) for @gw;


subtest 'gone ten times under load' => sub {
    my $load = load(rate => 400, request => sub {
        return ($gw[ $_[0] % 2 ], post($client{busy})) });
    my ($from, @away) = (now());
    sleep 0.5;

    for my $n (1 .. 10) {
        my $frozen = $n % 2;
        my $start = now();
        if ($frozen) { $redis->freeze } else { $redis->stop('KILL') }
        my $gone = now();

        sleep 1.2;

        my $end = now();
        if ($frozen) { $redis->thaw } else { $redis->start or last }
        push @away, [ $start, $gone, $end ];

        sleep 1.2;
    }

    sleep 1.5;

    my $rows = $load->stop;
    my $time = now() - $from;
    my %n = %{ numbers($rows) };

    is(scalar @away, 10, 'ten times');
    is_deeply([ sort keys %n ], [ 200, 429 ], 'nothing but 200 and 429')
        or diag(explain(\%n));

    my $longest = longest($rows);
    cmp_ok($longest, '<', TIMEOUT + SLACK,
        sprintf 'no request hangs: %.3f s at most', $longest);

    my @times = sort { $a <=> $b } map { $_->{time} } @$rows;
    note(sprintf '%d requests in %.1f s, %d admitted; p50 %.4f, p99 %.4f, '
        . 'p99.9 %.4f, longest %.4f s', scalar @$rows, $time, $n{200},
        map { $times[ $_ * $#times ] } 0.5, 0.99, 0.999, 1);

    for my $n (1 .. @away) {
        my ($start, $gone, $end) = @{ $away[$n - 1] };
        my $phase = between($rows, $start, $end);

        for my $gw (@gw) {
            my @own = grep { $_->{gateway} eq $gw->{name} } @$phase;

            # what it has leased before comes on top: a burst at most

            my $most = 10 + 50 * ($end - $start) + 10;
            my $got = admitted(\@own);
            cmp_ok($got, '<=', $most, sprintf
                '%d, %s: %d admitted of %d while Redis was away, %.1f s', $n,
                $gw->{name}, $got, scalar @own, $end - $start);
            cmp_ok($got, '>=', 0.5 * 50 * ($end - $start), 'and not too few');
        }

        my @late = grep { $_->{start} > $gone + TIMEOUT + 0.3 }
            @{ between($rows, $gone, $end) };
        is(scalar(grep { $_->{status} == 200 && $_->{limits} ne 'local' }
            @late), 0, 'all of them are marked');
    }

    # back: until the last answer that was decided without Redis

    my @back;
    for my $n (0 .. $#away) {
        my $from = $away[$n][2];
        my $to = $n < $#away ? $away[$n + 1][0] : $rows->[-1]{end};
        my ($last) = sort { $b <=> $a } 0, map { $_->{end} - $from }
            grep { $_->{limits} } @{ between($rows, $from, $to) };
        push @back, $last;
    }

    note('back after ' . join ' ', map { sprintf '%.2f', $_ } @back);
    cmp_ok($back[-1], '<', 2, sprintf 'back after %.2f s', $back[-1]);
    cmp_ok((sort { $a <=> $b } @back)[4], '<', 1, 'mostly in less than one');

    # while Redis is there it admits, else each of the gateways by itself

    my $most = 10 + 50 * $time;
    $most += 2 * (20 + 50 * ($away[$_][2] - $away[$_][0] + $back[$_]))
        for 0 .. $#away;
    cmp_ok($n{200}, '<=', $most, sprintf 'in all %d admitted, at most %d',
        $n{200}, $most);

    # it is said when it goes and when it comes, not for every request

    for my $gw (@gw) {
        my @lines = HybridRedis::slurp($gw->{log}) =~ /(redis ".*)/g;
        cmp_ok(scalar @lines, '<=', 100, "$gw->{name}: " . @lines
            . ' lines about Redis');
        cmp_ok(scalar @lines, '>=', 20, 'and not none');
    }
};


subtest 'loss=' => sub {
    $redis->command('FLUSHALL');
    my $gw = gateway(name => 'loss', workers => 2, http => conf($where));
    ok(wait_until(sub { $gw->status->{redis}{available} }), 'with Redis');

    is((limits($gw, $_))[1], '-', "$_: decided by Redis")
        for qw(open closed local);

    $redis->stop('KILL');
    ok(wait_until(sub { (limits($gw, 'busy'))[1] eq 'local' }), 'without');

    my %n = map {
        my $name = $_;
        my $rows = load(rate => 500, count => 20, request => sub {
            return ($gw, post($client{$name})) })->results;
        my %mark = map { $_->{limits} => 1 } @$rows;
        ($name => { %{ numbers($rows) }, mark => join ' ', sort keys %mark });
    } qw(open closed local free);

    is_deeply($n{open}, { 200 => 20, mark => 'open' }, 'loss=open');
    is_deeply($n{local}, { 200 => 2, 429 => 18, mark => 'local' },
        'loss=local goes on with what is left here');
    is_deeply($n{closed}, { 503 => 20, mark => 'closed' }, 'loss=closed');
    is_deeply($n{free}, { 200 => 20, mark => '' }, 'no limit, no mark');

    my $answer = (limits($gw, 'closed'))[2];
    is($answer->{headers}{'x-hybrid-reason'}, 'limits_unavailable', 'reason');
    cmp_ok($answer->{headers}{'retry-after'}, '>=', 1, 'Retry-After');

    my $metrics = http($gw, 'GET', '/hybrid/metrics')->{body};
    like($metrics,
        qr/^ngx_hybrid_limits_without_redis_total\{client="open"\} 20$/m,
        'counted');
    like($metrics, qr/^ngx_hybrid_redis_up 0$/m, 'Redis is not up');

    ok($redis->start, 'Redis is there again, without its data');
    cmp_ok(my $time = recovered($gw), '<', 2 + SLACK, 'used again');

    # a gateway tells the new Redis what it has admitted itself

    my (%status, $status, $mark);
    ok(wait_until(sub {
        ($status, $mark) = limits($gw, 'local');
        $status{$status}++;
        return $mark eq '-' }), 'the other worker, too');
    is(join(' ', keys %status), 429, 'no new burst with the new Redis');

    log_is_clean($gw, @expected);
    ok($gw->stop, 'ended');
};


subtest 'not there at the start' => sub {
    my $later = redis(name => 'later', later => 1);
    my $gw = gateway(name => 'early', workers => 2,
        http => conf("127.0.0.1:$later->{port}"));

    my $rows = load(rate => 500, count => 20, request => sub {
        return ($gw, post($client{local})) })->results;
    is_deeply(numbers($rows), { 200 => 3, 429 => 17 }, 'limits hold');
    is(scalar(grep { $_->{limits} eq 'local' } @$rows), 20, 'locally');
    cmp_ok(longest($rows), '<', TIMEOUT + SLACK, 'nobody waits');

    sleep 1.5;
    ok($later->start, 'Redis starts');
    cmp_ok(my $time = recovered($gw), '<', 2 + SLACK, 'and is used');

    log_is_clean($gw, @expected);
    ok($gw->stop, 'ended');
    ok($later->stop('TERM'), 'Redis ended');

    # a socket that is not there, or not a socket

    my $file = HybridRedis::spew(dir() . '/file', 'x');
    for my $path (dir() . '/none.sock', $file) {
        $gw = gateway(workers => 2, http => conf("unix:$path"));
        $rows = load(rate => 500, count => 10, request => sub {
            return ($gw, post($client{local})) })->results;
        is_deeply(numbers($rows), { 200 => 3, 429 => 7 }, "unix:$path");
        log_is_clean($gw, @expected);
        ok($gw->stop, 'ended');
    }
};


subtest 'clients that leave while Redis is asked' => sub {
    my $slow = conf($where) =~ s/timeout=100ms/timeout=1500ms/r;
    my $gw = gateway(name => 'leave', workers => 2, http => $slow);
    ok(wait_until(sub { $gw->status->{redis}{available} }), 'with Redis');
    my @before = sort $gw->workers;
    my $asked = $forge->mock('stats')->{requests};

    # some close, some reset, some send half of their body, some stay

    $redis->freeze;
    my (@sockets, @stay);

    for my $n (1 .. 60) {
        my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
            PeerPort => $gw->{port}) or die "connect: $!";
        my $text = post($client{crowd});
        $text = substr $text, 0, -10 if $n % 3 == 0;
        print $socket $text;
        $socket->flush;
        if ($n % 4 == 1) { push @stay, $socket }
        else { push @sockets, $socket }
    }

    sleep 0.3;

    for my $n (0 .. $#sockets) {
        if ($n % 2) {
            setsockopt $sockets[$n], Socket::SOL_SOCKET(),
                Socket::SO_LINGER(), pack 'ii', 1, 0;
        }
        close $sockets[$n];
    }

    sleep 0.3;
    $redis->thaw;

    my %n;
    for my $socket (@stay) {
        local $SIG{ALRM} = sub { die "timeout\n" };
        my $got = '';
        eval { alarm 3; sysread $socket, $got, 4096; alarm 0 };
        alarm 0;
        $n{ $got =~ /^HTTP\S+ (\d+)/ ? $1 : 'none' }++;
        close $socket;
    }

    # those whose body is not all there wait for it, and go with us

    is_deeply(\%n, { 200 => 10, none => 5 }, 'who stays is answered')
        or diag(explain(\%n));
    is_deeply([ sort $gw->workers ], \@before, 'no worker has ended');
    ok(wait_until(sub { $forge->mock('stats')->{active} == 0 }), 'no more');
    is($forge->mock('stats')->{requests} - $asked, 10,
        'nothing is asked for those who left');

    # the same, and Redis never answers

    $redis->freeze;
    my $rows = load(rate => 2000, count => 300, most => 300,
        timeout => 0.5, request => sub {
            return ($gw, post($client{crowd})) })->results;
    is(scalar(grep { $_->{error} eq 'timeout' } @$rows), 300,
        '300 wait and leave') or diag(explain(numbers($rows)));
    sleep 1.5;
    $redis->thaw;

    cmp_ok(my $time = recovered($gw), '<', 4 + SLACK, 'well again');
    is_deeply([ sort $gw->workers ], \@before, 'no worker has ended');

    # many at once wait for one answer, and all get it

    $redis->freeze;
    my $load = load(rate => 3000, count => 350, most => 350,
        request => sub { return ($gw, post($client{crowd})) });
    sleep 0.5;
    $redis->thaw;
    $rows = $load->results;
    is_deeply(numbers($rows), { 200 => 350 }, '350 wait and are answered');
    is(scalar(grep { $_->{limits} } @$rows), 0, 'by Redis');
    note(sprintf 'the slowest after %.2f s', longest($rows));

    # a gateway that ends while requests wait

    $redis->freeze;
    $load = load(rate => 1000, count => 50, request => sub {
        return ($gw, post($client{crowd})) });
    sleep 0.4;
    ok($gw->stop, 'ends while requests wait');
    is_deeply(numbers($load->results), { 200 => 50 }, 'they are answered');
    $redis->thaw;
    log_is_clean($gw, @expected);
};


for my $gw (@gw) {
    log_is_clean($gw, @expected);
}

all_ended();
done_testing();
