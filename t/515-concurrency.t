# "concurrency": requests at a time, over workers and gateways, and what
# becomes of the slots of those that are gone.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use IO::Select;
use IO::Socket::INET;
use Test::More;
use Time::HiRes 'sleep';

my $forge = backend(name => 'forge');
my $redis = redis(name => 'redis');
my %client = map { $_->{name} => $_ }
    client_block('three', 'concurrency 3;'),
    client_block('gone', 'concurrency 2;'),
    client_block('killed', 'concurrency 2;'),
    client_block('dead', 'concurrency 2;'),
    client_block('lost', 'concurrency 2;'),
    client_block('waits', 'concurrency 1; queue 8 timeout=20s;'),
    client_block('shadow', 'concurrency 1;');

sub conf {
    my ($more) = @_;
    return "hybrid_zone 2m;\n$more" . join('', map { $_->{conf} }
        values %client) . "hybrid_backend forge {"
        . " pass http://127.0.0.1:$forge->{port}; probe off; models *; }\n"
        . "hybrid_route * forge;\n";
}

my $shared = "hybrid_redis 127.0.0.1:$redis->{port} timeout=2s;\n";

sub gw {
    my ($more, %o) = @_;
    my $gw = gateway(workers => 2, listen => 'reuseport',
        http => conf($more), %o);
    wait_until(sub { $gw->status->{redis}{available} }) if $more;
    return $gw;
}

sub active { return $forge->mock('stats')->{active} }

sub slow {
    $forge->mock('behave', { $_[0] ? (delay_ms => 1000 * $_[0]) : () });
}

# a request that is under way
sub begin {
    my ($gw, $name) = @_;
    my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $gw->{port}) or die $!;
    print $s post($client{$name});
    $s->flush;
    return $s;
}

sub ends {
    my ($s) = @_;
    local $/;
    my $text = <$s>;
    return $text =~ /^HTTP\S+ (\d+)/ ? $1 : 0;
}

sub status { return raw_http($_[0]{port}, post($client{$_[1]}))->{status} }

# as many as may be, and what another one is told
sub fill {
    my ($gws, $name, $n) = @_;
    my $before = active();
    my @all;

    for my $i (1 .. $n) {
        # a gateway that was told there is none asks again in a second
        wait_until(sub {
            my $s = begin($gws->[$i % @$gws], $name);
            my $answered = IO::Select->new($s);
            wait_until(sub { active() == $before + $i
                || $answered->can_read(0) });
            return 0 if active() != $before + $i;
            push @all, $s;
        }) or return @all;
    }

    return @all;
}

sub refused {
    my ($gw, $name) = @_;
    my $r = raw_http($gw->{port}, post($client{$name}));
    return join ' ', $r->{status}, map { $_ // '-' }
        @{$r->{headers}}{qw(x-hybrid-reason retry-after)};
}

sub idle {
    my %h = @{ $redis->command('HGETALL', "hybrid:{$_[0]}:limits") };
    return !grep { /^c:/ && $h{$_} !~ /^0 / } keys %h;
}

my $no = '429 concurrency_limited 1';


sub cases {
    my ($more, @gw) = @_;

    subtest 'at a time' => sub {
        slow(0.02);
        my $rows = load(rate => 400, count => 200, request => sub {
            return ($gw[$_[0] % @gw], post($client{three})) })->results;
        my %n = %{ numbers($rows) };
        is join(' ', sort keys %n), '200 429', 'some pass, some not';
        cmp_ok $n{200}, '>', 5, "$n{200} pass";
        cmp_ok $forge->mock('stats')->{max_active}, '<=', 3, 'three';

        # what a gateway has and does not use goes back within a second
        ok wait_until(sub { idle('three') }), 'given back' if $more;

        slow(60);
        my @all = fill(\@gw, 'three', 3);
        is active(), 3, 'under way';
        is refused($_, 'three'), $no, "a fourth at $_->{name}" for @gw;
        close $_ for @all;
        ok wait_until(sub { active() == 0 }), 'they leave';
        slow(0);
        ok wait_until(sub { status($_, 'three') == 200 }, 5), 'again'
            for @gw;
    };

    subtest 'a worker that is killed' => sub {
        slow(60);
        my @all = fill(\@gw, 'killed', 2);
        is refused($gw[0], 'killed'), $no, 'full';
        kill 'KILL', $_ for map { $_->workers } @gw;
        ok wait_until(sub { active() == 0 }), 'all are';
        slow(0);
        ok wait_until(sub { status($_, 'killed') == 200 }, 8),
            "free at $_->{name}" for @gw;
    };

    subtest 'who waits and leaves' => sub {
        slow(1.5);
        my $first = begin($gw[0], 'waits');
        wait_until(sub { active() == 1 });
        my @gone = map { my $s = begin($gw[0], 'waits'); sleep 0.02; $s }
            1 .. 3;
        sleep 0.1;
        close $_ for @gone;
        my $last = begin($gw[0], 'waits');
        is ends($first), 200, 'the first';
        is ends($last), 200, 'and the one that stayed';
        slow(0);
        is status($gw[0], 'waits'), 200, 'nothing is left behind';
    };

    subtest 'a reload' => sub {
        slow(60);
        my @all = fill(\@gw, 'gone', 2);
        ok $_->hup, 'told' for @gw;
        sleep 0.5;
        is refused($gw[0], 'gone'), $no, 'those of the old workers count';
        close $_ for @all;
        ok wait_until(sub { active() == 0 }), 'they leave';
        slow(0);
        ok wait_until(sub { status($_, 'gone') == 200 }, 8), 'again'
            for @gw;
    };
}


subtest 'one gateway' => sub {
    my $gw = gw('');
    cases('', $gw);
    log_is_clean($gw, qr/exited on signal 9/);
    ok $gw->stop, 'ends';
};

subtest 'two gateways' => sub {
    my @gw = (gw($shared, name => 'one'), gw($shared, name => 'two'));
    cases($shared, @gw);

    subtest 'a Redis that is killed, and comes back empty' => sub {
        slow(60);
        my @all = fill(\@gw, 'lost', 2);
        is refused($gw[0], 'lost'), $no, 'full';
        ok $redis->stop && $redis->start, 'killed and started';
        ok wait_until(sub { ($redis->command('HLEN',
            'hybrid:{lost}:limits') // 0) == 2 }, 12), 'told again';
        is refused($_, 'lost'), $no, "and full at $_->{name}" for @gw;
        close $_ for @all;
        ok wait_until(sub { active() == 0 }), 'they leave';
        slow(0);
        ok wait_until(sub { status($_, 'lost') == 200 }, 8), 'again' for @gw;
    };

    # 15 s after it said something for the last time
    subtest 'a gateway that is killed' => sub {
        slow(60);
        my @all = fill([ $gw[1] ], 'dead', 2);
        is refused($gw[0], 'dead'), $no, 'full';
        my @pids = ($gw[1]{pid}, $gw[1]->workers);
        kill 'KILL', @pids;
        ok wait_until(sub { active() == 0 }), 'killed';
        my $key = 'hybrid:{dead}:limits';
        my $now = $redis->command('TIME')->[0];
        my %h = @{ $redis->command('HGETALL', $key) };
        my @until = map { (split ' ')[1] / 1e6 - $now }
            grep { /^2 / } values %h;
        is scalar @until, 1, 'its slots';
        cmp_ok $until[0], '<=', 16, 'are its own no longer than that';

        # that time has passed
        my ($field) = grep { $h{$_} =~ /^2 / } keys %h;
        $redis->command('HSET', $key, $field,
            $h{$field} =~ s/^2 \d+/'2 ' . ($now - 1) . '000000'/er);
        slow(0);
        ok wait_until(sub { status($gw[0], 'dead') == 200 }, 5), 'free';
    };

    log_is_clean($gw[0], qr/exited on signal 9|redis "/);
    ok $gw[0]->stop, 'ends';
};

all_ended();
done_testing();
