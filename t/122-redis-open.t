# Who passes without a limit while Redis is away or can't tell it ("loss="),
# and that this ends when Redis is back.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use Test::More;
use Time::HiRes 'sleep';

my $redis = redis(name => 'redis');

sub started {
    my ($timeout, @clients) = @_;
    my $gw = gateway(workers => 4, listen => 'reuseport',
        http => "hybrid_zone 2m;\n"
            . "hybrid_redis 127.0.0.1:$redis->{port} timeout=$timeout;\n"
            . join('', map { $_->{conf} } @clients)
            . "hybrid_backend none { pass http://127.0.0.1:9; models a;"
            . " probe off; }\n"
            . "hybrid_route * none;\n");
    wait_until(sub { $gw->status->{redis}{available} }) or die 'no Redis';
    return $gw;
}

# a list of models needs no backend, but a credit as all requests do
sub ask {
    my ($client) = @_;
    return "GET /api/tags HTTP/1.1\r\nHost: x\r\n$client->{headers}"
        . "Connection: close\r\n\r\n";
}


subtest 'a bucket that Redis can not tell' => sub {
    my %client = map { $_ => client_block($_, "rate 1r/h burst=2 loss=$_;") }
        qw(open closed local);
    my $gw = started('2s', values %client);
    my %want = (
        open => [ ('200 open') x 12 ],
        closed => [ ('503 closed') x 12 ],
        local => [ ('200 local') x 2, ('429 local') x 10 ],
    );

    for my $name (sort keys %want) {
        $redis->command('LPUSH', "hybrid:{$name}:limits", 'x');
        my @got = map {
            my $answer = raw_http($gw->{port}, ask($client{$name}));
            "$answer->{status} " . ($answer->{headers}{'x-hybrid-limits'}
                // 'none') } 1 .. 12;
        is_deeply(\@got, $want{$name}, "loss=$name");
        $redis->command('DEL', "hybrid:{$name}:limits");
    }

    for my $name (qw(open local)) {
        ok(wait_until(sub { !raw_http($gw->{port}, ask($client{$name}))
            ->{headers}{'x-hybrid-limits'} }, 5), "loss=$name: Redis again");
    }
    log_is_clean($gw, qr/\[error\].*redis can't tell/);
    ok($gw->stop, 'ended');
};


subtest 'all workers see that Redis is back' => sub {
    my $client = client_block('busy', 'rate 1r/s burst=2 loss=open;');
    my $gw = started('2s', $client);
    my $load = load(rate => 100, request => sub {
        return ($gw, ask($client)) });

    sleep 0.5;
    $redis->stop('KILL');
    sleep 0.5;
    ok($redis->start, 'back');
    sleep 3;
    my $from = now();
    sleep 2;

    my $rows = $load->stop;
    my @late = grep { $_->{start} > $from } @$rows;
    my %workers = map { $_->{worker} => 1 } @late;
    is(scalar keys %workers, 4, scalar(@late) . ' requests to four workers');
    is(scalar(grep { $_->{limits} } @late), 0, 'decided without Redis');
    cmp_ok(admitted(\@late), '<=', 2 + 1 + (now() - $from), 'the limit holds');

    log_is_clean($gw, qr/\[error\].*redis "/);
    ok($gw->stop, 'ended');
};

all_ended();
done_testing();
