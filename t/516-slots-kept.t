# Requests at a time, and who tells Redis of them: a worker uses slots that
# another one has got, or that were taken while Redis was away.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use IO::Socket::INET;
use Test::More;
use Time::HiRes 'sleep';

my $forge = backend(name => 'forge');
my $redis = redis(name => 'redis');
my %client = map { $_->{name} => $_ }
    client_block('killed', 'concurrency 2;'),
    client_block('reloaded', 'concurrency 2;'),
    client_block('away', 'concurrency 1;'),
    client_block('waits', 'concurrency 1; queue 5 timeout=20s;');

my $http = "hybrid_zone 2m;\n"
    . "hybrid_redis 127.0.0.1:$redis->{port} timeout=2s;\n"
    . join('', map { $_->{conf} } values %client)
    . "hybrid_backend forge { pass http://127.0.0.1:$forge->{port};"
    . " probe off; models *; }\nhybrid_route * forge;\n";
my @expected = (qr/\[error\].*redis "/, qr/no revocations are known/,
    qr/exited on signal 9/, qr/revocations can't be read/);

sub active { return $forge->mock('stats')->{active} }
sub slow { return $forge->mock('behave', { delay_ms => 1000 * $_[0] }) }

sub begin {
    my ($gw, $name, $s) = @_;
    $s //= IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $gw->{port}) or die "connect: $!";
    print $s post($client{$name});
    $s->flush;
    return $s;
}

# a connection that this worker has accepted
sub of {
    my ($gw, $pid) = @_;

    for (1 .. 200) {
        my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
            PeerPort => $gw->{port}) or die "connect: $!";
        print $s "HEAD /hybrid/status HTTP/1.1\r\nHost: x\r\n\r\n";
        $s->flush;
        my $who = 0;
        while (my $line = <$s>) {
            $who = $1 if $line =~ /^x-worker: (\d+)/i;
            last if $line eq "\r\n";
        }
        return $s if $who == $pid;
    }
    die "no connection of worker $pid";
}

# two slots that one worker has got, used by the other one
sub lend {
    my ($gw, $name, $from, $to) = @_;
    my @from = map { of($gw, $from) } 1, 2;
    my @to = map { of($gw, $to) } 1, 2;
    my $before = active();

    slow(0.2);
    begin($gw, $name, $_) for @from;
    ok(wait_until(sub { active() == $before + 2 }), "$name: got");
    is(scalar(grep { readline($_) =~ / 200 / } @from), 2, 'and given back');
    close $_ for @from;
    sleep 0.2;
    slow(60);
    begin($gw, $name, $_) for @to;
    ok(wait_until(sub { active() == $before + 2 }), 'used by the other one');
    return @to;
}

# whether Redis has it that so many are in use, for seconds to come
sub told {
    my ($name, $n) = @_;
    my %all = @{ $redis->command('HGETALL', "hybrid:{$name}:limits") };
    my ($now) = @{ $redis->command('TIME') };
    return grep { /^(\d+) (\d+)/ && $1 == $n && $2 / 1e6 > $now + 5 }
        values %all;
}

my ($one, $two) = map { gateway(workers => 2, listen => 'reuseport',
    name => $_, http => $http) } qw(one two);
for my $gw ($one, $two) {
    ok(wait_until(sub { $gw->status->{redis}{available} }), 'Redis is there');
}


subtest 'the worker that got them is gone' => sub {
    my ($first, $second) = $one->workers;
    my @open = lend($one, 'killed', $first, $second);
    kill 'KILL', $first;
    ok(wait_until(sub { 2 == grep { $_ != $first } $one->workers }),
        'killed, and another one is there');
    my ($third) = grep { $_ != $first && $_ != $second } $one->workers;
    push @open, lend($one, 'reloaded', $third, $second);
    my %old = map { $_ => 1 } $one->workers;
    $one->hup;
    ok(wait_until(sub { 2 == grep { !$old{$_} } $one->workers }), 'reloaded');

    # longer than Redis keeps slots that nobody renews

    sleep 17;

    for my $name (qw(killed reloaded)) {
        ok(told($name, 2), "$name: Redis knows of both");
        my @more = map { begin($two, $name) } 1, 2;
        sleep 1;
        is(active(), 4, 'nobody else gets one');
        close $_ for @more;
    }

    close $_ for @open;
    ok(wait_until(sub { active() == 0 }), 'all is over');
};


subtest 'begun while Redis is away' => sub {
    ok($redis->stop, 'killed');
    my $s = begin($one, 'away');
    ok(wait_until(sub { active() == 1 }), 'begun');
    my $t = begin($one, 'waits');
    ok(wait_until(sub { active() == 2 }), 'of a client that may wait');
    my $u = begin($one, 'waits');
    sleep 2;
    my ($row) = grep { $_->{name} eq 'waits' } @{ $one->status->{clients} };
    cmp_ok($row->{without_redis}, '<=', 2,
        'two requests without Redis, however long one of them waits')
        or diag(explain($row));

    ok($redis->start, 'started');
    my $all = 0;
    ok(wait_until(sub {
        my $answer = raw_http($two->{port}, "GET /api/tags HTTP/1.1\r\n"
            . "Host: x\r\n$client{killed}{headers}Connection: close\r\n\r\n");
        $all = $answer->{status} == 200
            && !$answer->{headers}{'x-hybrid-limits'} ? $all + 1 : 0;
        return $all >= 12 }), 'all workers have it');
    ok(wait_until(sub { told('away', 1) }), 'Redis is told');
    my $more = begin($two, 'away');
    sleep 1;
    is(active(), 2, 'one at a time');
    close $_ for $s, $t, $u, $more;
    ok(wait_until(sub { active() == 0 }), 'all is over');
};


for my $gw ($one, $two) {
    ok($gw->stop, 'ended');
    log_is_clean($gw, @expected);
}
all_ended();
done_testing();
