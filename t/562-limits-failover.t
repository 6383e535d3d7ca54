# Tokens and requests at a time while Redis changes under load: another master
# by Sentinel, slots of a cluster that move.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use HybridRedisGroup;
use Test::More;
use Time::HiRes 'sleep';

if (`redis-server --version` !~ /v=(\d+)/ || $1 < 5) {
    plan(skip_all => 'needs redis-server 5 or later');
}

my $forge = backend(name => 'forge');
my ($rate, $burst, $at_once) = (1000, 2000, 6);
my ($busy) = client_block('busy', 'tokens ' . $rate * 60 . "/m burst=$burst;"
    . " concurrency $at_once;");

sub conf {
    my ($where) = @_;
    return "hybrid_zone 2m;\nhybrid_redis $where;\n$busy->{conf}"
        . "hybrid_backend forge {"
        . " pass http://127.0.0.1:$forge->{port}; probe off; models *; }\n"
        . "hybrid_route * forge;\n";
}

sub limits {
    my $answer = raw_http($_[0]{port}, post($busy));
    return "$answer->{status} " . ($answer->{headers}{'x-hybrid-limits'}
        // '-');
}

sub with_redis {
    my ($gw) = @_;
    my $row = 0;
    return wait_until(sub {
        $row = limits($gw) =~ / -$/ ? $row + 1 : 0;
        return $row >= 12 }, 60);
}

sub gateways {
    my ($where) = @_;
    return map { gateway(name => "$_[1]$_", workers => 2,
        http => conf($where)) } 1, 2;
}

# what one request is told to have used
sub used {
    my ($gw) = @_;
    my $body;
    ok(wait_until(sub {
        my $answer = raw_http($gw->{port}, post($busy));
        $body = $answer->{body};
        return $answer->{status} == 200 }), 'one passes') or return 1;
    my ($in) = $body =~ /"prompt_eval_count":(\d+)/;
    my ($out) = $body =~ /"eval_count":(\d+)/;
    return $in + $out;
}

sub under_load {
    my ($gw, $do) = @_;
    my $each = used($gw->[0]);
    $forge->mock('behave', { delay_ms => 20 });
    my $load = load(rate => 150, request => sub {
        return ($gw->[ $_[0] % 2 ], post($busy)) });
    sleep 1;
    my $more = $do->();
    sleep 1;
    my $rows = $load->stop;
    $forge->mock('behave', { });

    my %n = %{ numbers($rows) };
    is_deeply([ sort keys %n ], [ 200, 429 ], 'no failed request')
        or diag(explain(\%n));

    # those under way have yet to be settled
    my $time = $rows->[-1]{end} - $rows->[0]{start};
    my $most = $burst + $rate * $time + $more + 2 * $at_once * $each;
    my $got = $each * admitted($rows);
    cmp_ok($got, '<=', $most, sprintf '%d tokens of %d requests in %.1f s,'
        . ' %d each', $got, admitted($rows), $time, $each);
    cmp_ok($got, '>=', 0.3 * $rate * $time, 'and not too few');
    return $rows;
}

sub quiet {
    my ($redis) = @_;
    ok(wait_until(sub {
        my %h = @{ $redis->()->command('HGETALL', 'hybrid:{busy}:limits') };
        return !grep { /^c:/ && $h{$_} !~ /^0 / } keys %h }, 30),
        'nothing is in flight any more');
    return;
}


subtest 'another master' => sub {
    my $set = sentinels(replicas => 1, sentinels => 3);
    my $where = join(' ', map { "127.0.0.1:$_->{port}" }
        @{ $set->{sentinels} }) . ' sentinel=main timeout=500ms';
    my @gw = gateways($where, 'sentinel');
    ok(with_redis($_), "$_->{name}: with Redis") for @gw;

    under_load(\@gw, sub {
        my ($from, $old) = (now(), $set->master);
        $old->stop('KILL');
        ok(wait_until(sub { grep { $_ != $old && $set->is_master($_) }
            @{ $set->{nodes} } }, 60), 'promoted');
        ok(with_redis($_), "$_->{name}: with Redis") for @gw;

        # meanwhile each by itself, from its own account
        return $burst + 2 * $rate * (now() - $from);
    });
    quiet(sub { $set->master });
    ok($_->stop, "$_->{name} ends") for @gw;
};


subtest 'slots of a cluster' => sub {
    $forge = backend(name => 'another');
    my $set = cluster(masters => 3, replicas => 0);
    my @node = @{ $set->{nodes} };
    my $where = join(' ', map { "127.0.0.1:$_->{port}" } @node)
        . ' cluster timeout=5s';
    my @gw = gateways($where, 'cluster');
    ok(with_redis($_), "$_->{name}: with Redis") for @gw;

    my $slot = $set->slot('hybrid:{busy}:limits');
    my ($at) = grep { $slot < int 16384 * ($_ + 1) / 3 } 0 .. 2;

    my $rows = under_load(\@gw, sub {
        for (1 .. 3) {
            my $to = ($at + 1) % 3;
            $set->move($slot, $node[$at], $node[$to], sub { sleep 0.1 });
            $at = $to;
            sleep 0.3;
        }
        return 0;
    });
    is(scalar(grep { $_->{limits} } @$rows), 0, 'all decided by Redis');
    cmp_ok($forge->mock('stats')->{max_active}, '<=', $at_once,
        "never more than $at_once at a time");
    quiet(sub { $node[$at] });
    ok($_->stop, "$_->{name} ends") for @gw;
};

all_ended();
done_testing();
