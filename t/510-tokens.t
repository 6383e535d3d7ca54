# "tokens": reserved before, settled after.  A token a minute or less often
# comes back, so that nothing moves while a test looks at it.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridOdd;
use HybridRedis ();
use HybridStream;
use Test::More;
use Time::HiRes qw(sleep time);

my $t = Hybrid->new;
my $odd = HybridOdd->new($t, 'odd');
my $other = HybridOdd->new($t, 'other');
my @names = qw(settle fail debt large average embed shadow moved);
my %as = map { $_ => $t->token($_) } @names;
my %limit = map { $_ => 'tokens 1000/d;' } @names;

$limit{$_} = 'tokens 300/d;' for qw(average embed);
$limit{large} = 'tokens 1000/d burst=200;';

sub conf {
    my ($more) = @_;
    return $more . join('', map {
        "hybrid_client $_ { $as{$_}{line} models *; $limit{$_} }\n" } @names)
        . <<"END";
    hybrid_backend odd   { pass http://$odd->{addr}; probe off; }
    hybrid_backend third { pass http://$other->{addr}; probe off; }
    hybrid_route m odd;
    hybrid_route both odd third;
    hybrid_route bge odd;
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

sub body {
    my (%o) = @_;
    return Hybrid::encode({ model => $o{model} // 'm', stream => \0,
        $o{input} ? (input => $o{input}) : (prompt => 'x'),
        exists $o{most} ? (options => { num_predict => $o{most} }) : () });
}

# what a request reserves of these, bytes / 4
sub guess { return int((length(body(@_)) + 3) / 4) }

sub told {
    my ($in, $out) = @_;
    return '{"model":"m","response":"x","done":true,"total_duration":9,'
           . qq("prompt_eval_count":$in,"eval_count":$out});
}

# with an answer of so many tokens
sub ask {
    my ($client, $in, $out, %o) = @_;
    $odd->answer(200, told($in, $out), 'Content-Type' => 'application/json')
        if defined $in;
    return $t->post($o{path} // '/api/generate', body(%o), as => $as{$client},
                    port => $o{port});
}

# tokens that are used, told by the wait of one that needs a whole burst
sub used {
    my ($client, $burst) = @_;
    my $r = ask($client, 0, 0, most => 1_000_000);
    return 'nothing' if $r->{status} != 429;
    my $day = $limit{$client} =~ /300/ ? 300 : 1000;
    return sprintf '%.0f', $r->{headers}{'retry-after'} / (86400 / $day);
}

# the same in Redis, once nothing is leased any more
sub counted {
    my ($redis, $client) = @_;
    my $key = "hybrid:{$client}:limits";
    my ($tat, $now);

    $tat = $redis->command('HGET', $key, 'tokens') // return 'none';
    $now = join '', map { sprintf '%06d', $_ } @{ $redis->command('TIME') };
    my $day = $limit{$client} =~ /300/ ? 300 : 1000;
    return sprintf '%.0f', ($tat - $now) / 1_000_000 / (86400 / $day);
}


sub same {
    my ($redis, $client, $wanted, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $got;
    poll { $got = used($client); $got eq $wanted } 5;
    is $got, $wanted, $what;

    return if !$redis;

    poll { $got = counted($redis, $client); $got eq $wanted } 8;
    is $got, $wanted, "$what, in Redis";
}


sub cases {
    my ($redis) = @_;

    subtest 'what was used is settled' => sub {
        is ask('settle', 10, 20, most => 100)->{status}, 200, 'a request';
        same($redis, 'settle', 30, 'less than was reserved');
        is ask('settle', 60, 140, most => 1)->{status}, 200, 'another';
        same($redis, 'settle', 230, 'more than that');

        is ask('settle', undef, 0, model => 'none')->{status}, 404, 'refused';
        is ask('settle', 0, 0, most => 900)->{status}, 429, 'too many';
        is ask('settle', 1, 1, most => 500)->{status}, 200, 'fewer are there';
        same($redis, 'settle', 232, 'refusals cost nothing');
    };

    subtest 'what fails is given back' => sub {
        ask('fail', 5, 5, most => 10);
        $odd->answer(500, '{"error":"x"}');
        is ask('fail', undef, 0, most => 800)->{status}, 500, 'a failure';
        same($redis, 'fail', 10, 'costs nothing');

        $odd->steps({ hang => 1 });
        my $n = $odd->requests;
        my $s = $t->open;
        my $text = body(most => 700);
        $s->send("POST /api/generate HTTP/1.1\r\nHost: x\r\nContent-Length: "
            . length($text) . "\r\n" . $t->auth_lines($as{fail})
            . "\r\n$text");
        ok poll { $odd->requests > $n }, 'one under way';
        is ask('fail', undef, 0, most => 400)->{status}, 429, 'reserved';
        $s->reset;
        my $used = 10 + guess(most => 700);
        same($redis, 'fail', $used, 'who leaves has used the prompt');

        # a stream that breaks off, after three tokens
        my @tokens = (ndjson(qw(a b c)))[0 .. 2];
        $odd->steps({ send => head('application/x-ndjson'), pause => 0.05 },
                    { send => join '', @tokens });
        local $t->{as} = $as{fail};
        stream($t, '/api/generate', body(most => 300));
        same($redis, 'fail', $used + 3 + guess(most => 300),
             'what was seen, and the prompt');
    };

    subtest 'a debt' => sub {
        is ask('debt', 500, 900, most => 1)->{status}, 200, 'a long answer';
        same($redis, 'debt', 1400, 'is paid later');
        is ask('debt', 1, 1, most => 1)->{status}, 429, 'no other';
        ok defined ask('debt')->{headers}{'x-hybrid-reason'}, 'refused';
        is ask('debt')->{headers}{'x-hybrid-reason'}, 'tokens_limited', 'why';
    };

    subtest 'larger than a burst' => sub {
        is ask('large', 50, 60, most => 100_000)->{status}, 200, 'when full';
        is ask('large', 50, 60, most => 100_000)->{status}, 429, 'not else';
        is ask('large', 10, 20, most => 20)->{status}, 200, 'a small one';
    };

    subtest 'what the client does not bound' => sub {
        my @status = map { ask('average', 12, 8)->{status} } 1 .. 10;
        is "@status", join(' ', (200) x 10), 'is as large as the others';
        same($redis, 'average', 200, 'all of them');
    };

    subtest 'embeddings' => sub {
        my @status = map {
            $odd->answer(200, '{"embeddings":[[1]],"prompt_eval_count":30}',
                         'Content-Type' => 'application/json');
            ask('embed', undef, 0, path => '/api/embed', model => 'bge',
                input => 'x' x 80)->{status};
        } 1 .. 8;
        is "@status", join(' ', (200) x 8), 'have no answer to reserve for';
        same($redis, 'embed', 240, 'but a prompt');
    };

    subtest 'a try that failed' => sub {
        $other->answer(200, told(7, 8), 'Content-Type' => 'application/json');
        $odd->answer(503, '{}');
        is ask('moved', undef, 0, model => 'both', most => 50)->{status}, 200,
            'the second one';
        same($redis, 'moved', 15, 'is what counts');
    };

    subtest 'shadow mode' => sub {
        ask('shadow', 400, 600, most => 1);
        is ask('shadow', 1, 1)->{status}, 429, 'refused';
        my $r = ask('shadow', 1, 1, port => $t->port(2));
        is $r->{status}, 200, 'let through';
        like $t->wait_log('error.log', qr/hybrid_shadow: tokens_limited/),
            qr/tokens_limited, client "shadow"/, 'and the log tells';
        same($redis, 'shadow', 1002, 'and so does the account') if !$redis;
    };
}


subtest 'one gateway' => sub {
    $t->start(workers => 2, http => conf(''));
    cases(undef);
    ok $t->stop, 'ends';
};

subtest 'Redis' => sub {
    my $redis = HybridRedis::redis(name => 'redis');
    $t->start(workers => 2, http => conf(
        "hybrid_redis 127.0.0.1:$redis->{port} timeout=2s;\n"));
    ok poll { my $s = $t->get('/status')->{json};
              $s && $s->{redis}{available} }, 'there';
    cases($redis);

    ok $t->stop, 'ends';
    is counted($redis, 'settle'), 232, 'a worker that ends tells nothing anew';
    kill 'TERM', $redis->{pid};
};

$t->done;
