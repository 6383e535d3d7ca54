# A client with several limits at a time, with Redis: what one of them does to
# the others.

use strict;
use warnings;

use lib 't/lib';
use HybridModelWorld;
use HybridRedis;
use Test::More;
use Time::HiRes 'sleep';

my $redis = redis(name => 'redis');
my $backend = model_backend('model');

my %client = map { $_->{name} => $_ }
    client_block('tokens', 'tokens 6k/m burst=3000 loss=closed;'),
    client_block('slots', 'concurrency 6 loss=closed;'),
    client_block('line', 'concurrency 1 loss=closed; queue 20 timeout=20s;'
        . ' tokens 600k/m burst=3000 loss=closed;');

my $proxy = ($ENV{HYBRID_ROOT} || POSIX::getcwd()) . '/conf/hybrid_proxy.conf';

my @gw = map { gateway(name => "gw$_", workers => 2, http => "hybrid_zone 2m;\n"
    . "hybrid_redis 127.0.0.1:$redis->{port} timeout=3s;\n"
    . join('', map { $_->{conf} } values %client)
    . "upstream model { zone model 64k; server 127.0.0.1:$backend->{port}"
    . " max_fails=0; }\nhybrid_backend model { pass http://model; models *;"
    . " probe off; }\nhybrid_route * model;", server => <<"END") } 1, 2;
location = /api/chat {
    hybrid_access token;
    include "$proxy";
    proxy_set_header X-Plan \$http_x_plan;
}
END

for my $gw (@gw) {
    wait_until(sub { ($gw->status // {})->{redis}{available} });
}

# a request that needs so many tokens and is answered after so many msec
sub text {
    my ($name, $tokens, $msec, $used) = @_;
    my $body = JSON::PP::encode_json({ model => 'm', options => {
        num_predict => $tokens - 40 }, stream => JSON::PP::false });
    $used //= $tokens;
    return post($client{$name}, body => $body)
        =~ s/\r\n/\r\nX-Plan: x $msec 1 $used 0\r\n/r;
}

sub ask {
    my ($gw, @text) = @_;
    my $answer = raw_http($gw->{port}, text(@text));
    return "$answer->{status} " . ($answer->{headers}{'x-hybrid-reason'}
        // '-');
}

# at once, [ gateway, text ]
sub at_once {
    my $n = 0;
    return numbers(model_clients([ map { [ 0, @$_, $n++ ] } @_ ])->results);
}


subtest 'a large request does not stop small ones' => sub {
    is(ask($gw[0], 'tokens', 2000, 0), '200 -', '2000 of 3000');
    is(ask($gw[0], 'tokens', 2000, 0), '429 tokens_limited', '2000 more');
    is(ask($gw[0], 'tokens', 100, 0), '200 -', 'but 100 are left');
    is(ask($gw[1], 'tokens', 2000, 0), '429 tokens_limited', 'elsewhere');
    is(ask($gw[1], 'tokens', 100, 0), '200 -', 'the same');
};


subtest 'slots grow by one and by many' => sub {
    for my $gw (@gw) {
        for my $n (1, 2, 6) {
            is_deeply(at_once(map { [ $gw, text('slots', 60, 300) ] } 1 .. $n),
                { 200 => $n }, "$n of 6 at a time");
            # what is idle is given back, for the other one
        }
        ok(wait_until(sub {
            my %fields = @{ $redis->command('HGETALL',
                'hybrid:{slots}:limits') };
            return !grep { !/^0 / } values %fields }), 'all given back');
    }

    my $n = at_once(map { [ $gw[ $_ % 2 ], text('slots', 60, 1500) ] } 1 .. 20);
    is_deeply($n, { 200 => 6, 429 => 14 }, 'of 20 at two gateways six');
};


# who has the slot already must not wait behind those who wait for it

subtest 'slots and tokens with a queue' => sub {
    my $from = now();
    is_deeply(at_once(map { [ $gw[0], text('line', 600, 50) ] } 1 .. 10),
        { 200 => 10 }, 'ten, one after the other');
    cmp_ok(now() - $from, '<', 10, sprintf 'in %.1f s', now() - $from);
};


all_ended();
done_testing();
