# "budget": money that clouds with a price cost, and who serves when it is
# spent.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridOdd;
use HybridRedis ();
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

my $t = Hybrid->new;
my $odd = HybridOdd->new($t, 'odd');
my $local = $t->backend('local', models => 'm,hops', tokens => 2);
my $key = $t->file('key', "the-key\n");
my $closed = $t->closed_port;
my @names = qw(spend last hop month warn shadow free debt away open shut);
my %as = map { $_ => $t->token($_) } @names;
my %limit = map { $_ => 'budget 1.00/d;' } @names;

$limit{month} = 'budget 1.00/M;';
$limit{away} = 'budget 1.00/d loss=local;';
$limit{open} = 'budget 1.00/d loss=open;';
$limit{shut} = 'budget 1.00/d loss=closed;';

# a token of an answer costs a hundredth
sub conf {
    my ($more) = @_;
    return $more . join('', map { "hybrid_client $_ { $as{$_}{line} models *;"
        . " egress any; $limit{$_} }\n" } @names) . <<"END";
    hybrid_backend cloud {
        pass http://$odd->{addr}/v1; api openai; egress cloud;
        credential bearer $key; price output=10000; probe off;
    }
    hybrid_backend gratis {
        pass http://$odd->{addr}/v1; api openai; egress cloud;
        credential bearer $key; probe off;
    }
    hybrid_backend local { pass http://$local->{addr}; probe off; }
    hybrid_backend dead  { pass http://127.0.0.1:$closed; probe off; }
    hybrid_route m cloud local;
    hybrid_route only cloud;
    hybrid_route gratis gratis;
    hybrid_route hop dead cloud;
    hybrid_route hops dead cloud local;
    server {
        listen 127.0.0.1:%PORT%;
        location / { hybrid_access token; include %PROXY%; }
        location = /status { hybrid_status json; }
    }
    server {
        listen 127.0.0.1:%PORT2%;
        location / { hybrid_access token; hybrid_shadow on;
                     include %PROXY%; }
    }
END
}

# "most" tokens are reserved, "out" used
sub ask {
    my ($client, $model, $most, $out, %o) = @_;
    $odd->answer(200, '{"choices":[{"message":{"content":"x"}}],"usage":{'
        . qq("prompt_tokens":1,"completion_tokens":$out}}),
        'Content-Type' => 'application/json') if defined $out;
    my $r = $t->post('/v1/chat/completions',
        { model => $model, max_tokens => $most, messages => [
          { role => 'user', content => 'x' } ] }, as => $as{$client},
        port => $o{port});
    return join ' ', grep { defined } $r->{status},
        @{$r->{headers}}{qw(x-hybrid-backend x-hybrid-fallback
                            x-hybrid-reason x-hybrid-limits)};
}

# hundredths that Redis has counted
sub spent {
    my ($redis, $client) = @_;
    my $text = $redis->command('HGET', "hybrid:{$client}:limits", 'budget');
    return ($text // '') =~ /^\d+ (\d+)/ ? $1 / 10_000 : 'none';
}

sub counts {
    my ($redis, $client, $wanted) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return if !$redis;
    poll { spent($redis, $client) eq $wanted } 8;
    is spent($redis, $client), $wanted, "$client has spent that in Redis";
}


sub cases {
    my ($redis) = @_;

    subtest 'a day' => sub {
        is ask('spend', 'm', 90, 10), '200 cloud', 'a cloud';
        is ask('spend', 'm', 90, 60), '200 cloud', 'again: it cost less';
        is ask('spend', 'm', 40, 1), '200 local budget', 'not enough';
        is ask('spend', 'm', 20, 20), '200 cloud', 'for a cheaper one it is';
        is ask('spend', 'gratis', 500, 500), '200 gratis', 'one without price';
        is ask('spend', 'm', 10, 30), '200 cloud', 'the last';
        is ask('spend', 'm', 1, 1), '200 local budget', 'nothing is left';
        is ask('spend', 'm', 1, 1), '200 local budget', 'and stays so';
        counts($redis, 'spend', 120);
    };

    subtest 'when only clouds are left' => sub {
        for my $client (qw(last month)) {
            is ask($client, 'only', 100, 100), '200 cloud', $client;
            my $r = $t->post('/v1/chat/completions', { model => 'only',
                max_tokens => 1, messages => [] }, as => $as{$client});
            is $r->{status}, 429, 'no more';
            is $r->{headers}{'x-hybrid-reason'}, 'budget_exceeded', 'why';
            is $r->{json}{error}{code}, 'budget_exceeded', 'in its dialect';

            my @now = gmtime;
            my $end = $client eq 'last'
                ? 86400 - time % 86400
                : POSIX::mktime(0, 0, 0, 1, $now[4] + 1, $now[5])
                  - POSIX::mktime(0, 0, 0, @now[3, 4, 5]) - time % 86400;
            my $retry = $r->{headers}{'retry-after'};
            cmp_ok abs($retry - $end), '<=', 30, "until its end: $retry";
        }
    };

    subtest 'a fallback' => sub {

        # Redis may not have told yet what is left
        like ask('hop', 'hop', 60, 30), qr/^200 cloud error( local)?$/,
            'to a cloud';
        is ask('hop', 'hops', 60, 60), '200 cloud error', 'and again';
        is ask('hop', 'hops', 60, 60), '200 local error', 'not without money';
        like ask('hop', 'hop', 60, 60), qr/^50\d/, 'nobody is left';
        is ask('hop', 'hops', 5, 5), '200 cloud error', 'for little it is';
        counts($redis, 'hop', 95);
    };

    subtest 'local backends cost nothing' => sub {
        my @got = map { my $r = $t->post('/api/generate', { model => 'm',
            prompt => 'x', options => { num_predict => 1000 } },
            as => $as{free}); $r->{headers}{'x-hybrid-backend'} } 1 .. 3;
        is "@got", 'local local local', 'the only one of that dialect';
        is ask('free', 'm', 100, 1), '200 cloud', 'all is left';
        counts($redis, 'free', 1);
    };

    subtest 'what was used too much' => sub {
        is ask('debt', 'm', 1, 90), '200 cloud', 'more than reserved';
        counts($redis, 'debt', 90);
        is ask('debt', 'm', 11, 1), '200 local budget', 'is spent';
        is ask('debt', 'm', 10, 10), '200 cloud', 'the rest is not';
        counts($redis, 'debt', 100);
    };

    subtest 'a failure' => sub {
        $odd->answer(500, '{}');
        is ask('warn', 'only', 90), '500 cloud', 'of the cloud';
        is ask('warn', 'only', 90, 1), '200 cloud', 'costs nothing';
    };

    subtest 'a warning' => sub {
        my $text = qr/client "warn" has used 80% of its budget of this day/;
        is ask('warn', 'only', 78, 78), '200 cloud', 'not yet';
        counts($redis, 'warn', 79);
        unlike $t->log('error.log'), $text, 'nothing is said';
        is ask('warn', 'only', 1, 1), '200 cloud', 'now';
        is ask('warn', 'only', 1, 1), '200 cloud', 'and after it';
        ok $t->wait_log('error.log', $text), 'said';
        counts($redis, 'warn', 81);
        is scalar(() = $t->log('error.log') =~ /$text/g), 1, 'once';
    };

    subtest 'shadow mode' => sub {
        is ask('shadow', 'm', 100, 100), '200 cloud', 'all';
        is ask('shadow', 'm', 50, 1), '200 local budget', 'refused';
        is ask('shadow', 'm', 50, 20, port => $t->port(2)), '200 cloud',
            'let through';
        is ask('shadow', 'hop', 50, 20, port => $t->port(2)),
            '200 cloud error', 'as a fallback, too';
        ok $t->wait_log('error.log', qr/hybrid_shadow: budget_exceeded/, 2),
            'and the log tells';
        counts($redis, 'shadow', 140);
    };
}


subtest 'one gateway' => sub {
    $t->start(workers => 2, http => conf(''));
    cases(undef);

    # from days to a month: what the day has spent is the month's
    $limit{debt} = 'budget 2.00/M;';
    ok $t->reload(workers => 2, http => conf('')), 'a month';
    ok poll { Hybrid::_workers($t->{pid}) == 2 }, 'and the old ones leave';
    is ask('debt', 'm', 100, 50), '200 cloud', 'a larger budget';
    is ask('debt', 'm', 51, 50), '200 local budget', 'of which some is spent';
    $limit{debt} = 'budget 1.00/d;';
    ok $t->stop, 'ends';
    unlink "$t->{dir}/error.log";
};

subtest 'Redis' => sub {
    my $redis = HybridRedis::redis(name => 'redis');
    $t->start(workers => 2, http => conf(
        "hybrid_redis 127.0.0.1:$redis->{port} timeout=1s;\n"));
    my $there = sub { my $s = $t->get('/status')->{json};
                      return $s && $s->{redis}{available} };
    ok poll { $there->() }, 'there';
    cases($redis);

    subtest 'without Redis' => sub {
        is ask($_, 'm', 40, 40), '200 cloud', "$_: with it"
            for qw(away open shut);
        counts($redis, $_, 40) for qw(away open shut);

        ok $redis->stop, 'killed';
        is ask('away', 'm', 50, 50), '200 cloud local', 'loss=local';
        is ask('away', 'm', 50, 50), '200 local budget local', 'holds';
        is ask('open', 'm', 90, 90), '200 cloud open', 'loss=open';
        is ask('open', 'm', 90, 90), '200 cloud open', 'does not';
        is ask('away', 'gratis', 9, 9), '200 gratis local',
            'nothing is open where nothing is spent';
        like ask('shut', 'm', 1, 1), qr/^503 .*limits_unavailable/,
            'loss=closed';

        # empty: what this gateway has spent is told it again
        ok $redis->start, 'started';
        counts($redis, 'away', 90);
        counts($redis, 'open', 220);
        is ask('away', 'm', 10, 10), '200 cloud', 'with it again';
    };

    ok $t->stop, 'ends';
    kill 'TERM', $redis->{pid};
};

$t->done;
