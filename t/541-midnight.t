# Clocks and a budget: what was reserved before midnight, and a clock that was
# wrong for a while.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use IO::Socket::INET;
use Test::More;
use Time::HiRes 'sleep';

my ($faketime) = glob '/usr/lib/*/faketime/libfaketime.so.1';
plan(skip_all => 'needs libfaketime') if !$faketime;
plan(skip_all => 'libfaketime does not go with this nginx')
    if $ENV{ASAN_OPTIONS} || $ENV{TEST_NGINX_USE_VALGRIND};

my $cloud = backend(name => 'cloud');
my @clients = map { client_block($_, 'budget 1.00/d; egress any;') }
    qw(night year);
my $clock = dir() . '/clock';
my $gw;

# seconds that nginx's clock is ahead; its monotonic one is left alone
sub set {
    spew($clock, sprintf "%+d\n", $_[0]);
    my $want = time + $_[0];
    return ok(!$gw || wait_until(sub { abs(clock() - $want) < 10 }),
        "$_[0] s ahead");
}

sub clock {
    my $date = raw_http($gw->{port}, "GET /hybrid/status HTTP/1.1\r\n"
        . "Host: x\r\nConnection: close\r\n\r\n")->{headers}{date};
    my ($d, $m, $y, $h, $i, $s) = $date
        =~ /(\d+) (\w+) (\d+) (\d+):(\d+):(\d+) GMT/ or die "no date: $date";
    $m = index('JanFebMarAprMayJunJulAugSepOctNovDec', $m) / 3;
    require Time::Local;
    return Time::Local::timegm($s, $i, $h, $d, $m, $y);
}

my $left = 86400 - time % 86400;
set($left - 5);

{
    local $ENV{LD_PRELOAD} = $faketime;
    local $ENV{FAKETIME_TIMESTAMP_FILE} = $clock;
    local $ENV{FAKETIME_NO_CACHE} = 1;
    local $ENV{FAKETIME_DONT_FAKE_MONOTONIC} = 1;
    $gw = gateway(workers => 1, main => join("\n", map { "env FAKETIME_$_;" }
        qw(TIMESTAMP_FILE NO_CACHE DONT_FAKE_MONOTONIC)), http => <<"END");
hybrid_zone 2m;
@{[ map { $_->{conf} } @clients ]}
hybrid_backend cloud { pass http://127.0.0.1:$cloud->{port}; models *;
    probe off; egress cloud; price output=10000; }
hybrid_route * cloud;
END
}

# 20 tokens cost 0.20, whatever was reserved
sub answers {
    $cloud->mock('behave', { status => 200, delay_ms => 1000 * $_[0],
        body => { model => 'mistral:7b', done => \1, prompt_eval_count => 1,
        eval_count => 20, message => { role => 'assistant',
        content => 'x' } } });
    return;
}

sub text {
    my ($client, $most) = @_;
    return post($client, body => body('mistral:7b',
        more => { options => { num_predict => $most } }));
}

# how many of so many pass
sub passed {
    my ($client, $n) = @_;
    answers(0);
    return scalar grep { raw_http($gw->{port}, text($client, 20))->{status}
        == 200 } 1 .. $n;
}


subtest 'reserved yesterday' => sub {
    my ($client) = @clients;

    answers(20);
    my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $gw->{port}) or die "connect: $!";
    print $s text($client, 95);
    $s->flush;
    ok(wait_until(sub { $cloud->mock('stats')->{active} == 1 }), 'begun');
    set(86400 - time % 86400 + 60);

    is(passed($client, 7), 5, 'a day is a day');
    like(scalar readline $s, qr/ 200 /, 'the one of yesterday ends');
    local $/ = undef;
    readline $s;
    close $s;
    is(passed($client, 7), 0, 'and gives nothing back to today');
};


subtest 'a clock that was ahead' => sub {
    my $client = $clients[1];

    set(86400 * 365);
    is(passed($client, 1), 1, 'a request in another year');

    for my $day (2, 3) {
        set(86400 * $day);
        is(passed($client, 7), $day == 2 ? 4 : 5,
            $day == 2 ? 'what it has cost is of today' : 'the next day');
    }
};

ok($gw->stop, 'ended');
log_is_clean($gw, qr/has used 80% of its budget/);
all_ended();
done_testing();
