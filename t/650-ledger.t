# The ledger: where a request's time went, as conf/hybrid_log.conf writes it,
# against what the backend itself has measured and what it was told to take.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridOdd;
use HybridStream;
use Test::More;
use Time::HiRes 'time';

my ($load, $prompt, $token, $tokens) = (0.8, 0.3, 0.02, 40);

my $t = Hybrid->new;
my $forge = $t->backend('forge',
    models => join(',', 'slow', map { "m$_" } 1 .. 9),
    tokens => $tokens, load_ms => $load * 1000, prompt_ms => $prompt * 1000,
    token_ms => $token * 1000);
my $odd = HybridOdd->new($t, 'odd');
my $dead = $t->closed_port;
my $alice = $t->{as} = $t->token('alice');
my $poor = $t->token('poor');

my $log = Hybrid::_slurp("$Hybrid::ROOT/conf/hybrid_log.conf");

$t->start(http => <<"END");
    $log
    access_log ledger.json hybrid_json;
    hybrid_client alice { $alice->{line} models *; egress any; }
    hybrid_client poor  { $poor->{line} models none; }
    hybrid_backend forge { pass http://$forge->{addr};
                           probe interval=1s timeout=5s; }
    hybrid_backend odd   { pass http://$odd->{addr}; probe off; }
    hybrid_backend dead  { pass http://127.0.0.1:$dead; probe off; }
    hybrid_backend paid  { pass http://$odd->{addr}; probe off;
                           price input=1 output=2; egress cloud; models *; }
    hybrid_route odd odd;
    hybrid_route paid paid;
    hybrid_route late dead odd;
    hybrid_route slow forge odd;
    hybrid_route * forge;
END

# the line of the request that was made last
my $lines = 0;

sub ledger { return $t->log_line('ledger.json', ++$lines) }

# within 5 % or 2 ms; under valgrind the time between two clocks is its own
sub near {
    my ($got, $wanted, $what) = @_;

    return if $Hybrid::VALGRIND;

    my $most = $wanted * 0.05 > 0.002 ? $wanted * 0.05 : 0.002;
    ok defined $got && abs($got - $wanted) <= $most,
        "$what: " . ($got // 'null') . " of $wanted";
}


subtest 'what was told to take its time' => sub {
    my $n = 0;

    for my $case ([ '/api/chat', 1 ], [ '/api/generate', 1 ],
                  [ '/v1/chat/completions', 1 ], [ '/v1/completions', 1 ],
                  [ '/v1/messages', 1 ], [ '/api/chat', 0 ],
                  [ '/v1/chat/completions', 0 ])
    {
        my ($path, $stream) = @$case;
        my $native = $path =~ /api/;
        my $start = time;
        my $s = stream($t, $path, { model => 'm' . ++$n, prompt => 'a b c',
            stream => $stream ? \1 : \0, max_tokens => $tokens,
            messages => [ { role => 'user', content => 'a b c' } ] });
        my $all = time - $start;
        my $r = ledger();

        note explain $r;
        is $s->{status}, 200, "$path, stream $stream";
        is $r->{$_->[0]}, $_->[1], $_->[0] for [ client => 'alice' ],
            [ model => "m$n" ], [ backend => 'forge' ], [ outcome => 'ok' ],
            [ retries => 0 ], [ fallback => '' ], [ reason => '' ],
            [ queue => 0 ], [ status => 200 ], [ usage => 'told' ],
            [ input_tokens => 3 ], [ output_tokens => $tokens ],
            [ cost => undef ], [ path => $path ];
        cmp_ok $r->{connect}, '<', 0.1, 'connect';
        near($r->{total}, $all, 'total');

        # the first token is the first to wait for a word's time
        my $before = $load + $prompt;

        if ($native) {
            my ($end) = $s->{text} =~ /(\{[^\n]*"total_duration"[^\n]*\})/;
            my $told = Hybrid::decode($end);

            cmp_ok $told->{load_duration} / 1e9, '>=', $load * 0.99,
                'it took its time';
            near($r->{load}, $told->{load_duration} / 1e9, 'load');
            near($r->{prompt}, $told->{prompt_eval_duration} / 1e9, 'prompt');
            near($r->{per_token}, $told->{eval_duration} / 1e9 / $tokens,
                'per token');
            near($r->{tokens_per_second},
                $tokens * 1e9 / $told->{eval_duration}, 'tokens/s');
            $before = ($told->{load_duration} + $told->{prompt_eval_duration})
                / 1e9;
        } else {
            is $r->{$_}, undef, "$_ is not told" for qw(load prompt);
        }

        # loaded is what a probe has not seen yet
        is $r->{cold}, $native ? 1 : $r->{cold}, 'a cold start'
            if $stream || $native;

        if ($stream) {
            cmp_ok $r->{ttft}, '>=', $before * 0.98, "first token $r->{ttft}";
            cmp_ok $r->{ttft}, '<=', $all - ($tokens - 2) * $token + 0.002,
                'the rest came later';
            near($r->{ttft}, $before + $token, 'first token') if $native;
        }

        if ($stream && !$native) {
            cmp_ok $r->{per_token}, '>=', $token * 0.95,
                "per token $r->{per_token}";
            cmp_ok $r->{per_token}, '<=', ($all - $load - $prompt)
                / ($tokens - 2), 'plausible';
            near($r->{tokens_per_second}, 1 / $r->{per_token}, 'tokens/s');
        }
    }
};


subtest 'warm' => sub {
    stream($t, '/api/chat', { model => 'm1', messages => [] });
    my $r = ledger();
    cmp_ok $r->{load}, '<', 0.1, 'no load';
    ok !$r->{cold}, 'no cold start';
};


# until /api/ps lists the model; each look at it is a line
sub loaded {
    my ($model) = @_;

    Hybrid::poll { $lines++; $t->get('/api/ps')->{content} =~ /$model/ };
    Hybrid::poll { my $n = () = $t->log('ledger.json') =~ /\n/g;
        $n >= $lines };
}


# in OpenAI's dialect nobody tells: it was not in memory, says /api/ps
subtest 'a cold start that is not told' => sub {
    loaded('m1');

    for my $wanted (1, 0) {
        stream($t, '/v1/chat/completions', { model => 'm9', stream => \1,
            messages => [] });
        is !!ledger()->{cold}, !!$wanted, $wanted ? 'cold' : 'warm';
        loaded('m9');
    }
};


my %answers = (
    '/api/chat' => [ 'application/x-ndjson',
        join('', map({ qq({"model":"m","message":{"role":"assistant",)
            . qq("content":"w$_"},"done":false}\n) } 1 .. 3),
            '{"model":"m","message":{"role":"assistant","content":""},'
            . '"done":true,"done_reason":"stop","total_duration":1900000000,'
            . '"load_duration":800000000,"prompt_eval_count":11,'
            . '"prompt_eval_duration":300000000,"eval_count":40,'
            . qq("eval_duration":800000000}\n)),
        { load => '0.800', prompt => '0.300', per_token => '0.020000',
          tokens_per_second => '50.00', input_tokens => 11,
          output_tokens => 40, cold => 1 } ],
    '/v1/chat/completions' => [ 'text/event-stream',
        join('', (sse('a', 'b'))[0 .. 2], usage_chunk(),
            "data: [DONE]\n\n"),
        { load => undef, prompt => undef, input_tokens => 1,
          output_tokens => 2, cold => '' } ],
    '/v1/messages' => [ 'text/event-stream',
        qq(event: message_start\ndata: {"type":"message_start","message":)
            . qq({"usage":{"input_tokens":7,"output_tokens":1}}}\n\n)
            . qq(event: content_block_delta\ndata: {"type":)
            . qq("content_block_delta","index":0,"delta":{"type":"text_delta",)
            . qq("text":"Hi"}}\n\nevent: message_delta\ndata: {"type":)
            . qq("message_delta","delta":{"stop_reason":"end_turn"},"usage":)
            . qq({"output_tokens":5}}\n\nevent: message_stop\n)
            . qq(data: {"type":"message_stop"}\n\n),
        { load => undef, prompt => undef, input_tokens => 7,
          output_tokens => 5 } ],
    '/api/generate' => [ 'application/json',
        '{"model":"m","response":"all of it","done":true,'
            . '"load_duration":1000,"prompt_eval_count":2,'
            . '"prompt_eval_duration":2000000,"eval_count":4,'
            . '"eval_duration":1000000000}',
        { load => '0.000', prompt => '0.002', per_token => '0.250000',
          tokens_per_second => '4.00', input_tokens => 2, output_tokens => 4,
          cold => '' } ],
);

for my $path (sort keys %answers) {
    my ($type, $text, $wanted) = @{$answers{$path}};

    subtest "$path, cut in two at every byte" => sub {
        my $head = head($type, 'Content-Length' => length $text);
        my $stream = $type =~ /json$/ && $type !~ /nd/ ? \0 : \1;
        my @bad;

        for my $at (0 .. length $text) {
            $odd->steps({ send => $head . substr($text, 0, $at),
                pause => 0.001 }, { send => substr $text, $at });
            my $s = stream($t, $path, { model => 'odd', stream => $stream,
                messages => [], prompt => 'p', max_tokens => 9,
                stream_options => { include_usage => \1 } });
            push @bad, "$at: $s->{text}" if $s->{text} ne $text;
        }

        is "@bad", '', 'not a byte is changed';

        my $first = $lines;
        $lines += 1 + length $text;
        Hybrid::poll { my $n = () = $t->log('ledger.json') =~ /\n/g;
            $n >= $lines };
        my @rows = (split /\n/, $t->log('ledger.json'))[$first .. $lines - 1];
        @bad = ();

        for my $at (0 .. $#rows) {
            my $r = Hybrid::decode($rows[$at]);

            for my $name (sort keys %$wanted) {
                my $w = $wanted->{$name};
                my $ok = !defined $w ? !defined $r->{$name}
                       : $w eq '' ? !$r->{$name}
                       : defined $r->{$name} && $r->{$name} == $w;
                push @bad, "$at: $name is " . ($r->{$name} // 'null')
                    if !$ok;
            }

            push @bad, "$at: $r->{outcome}" if $r->{outcome} ne 'ok';
            push @bad, "$at: no first token"
                if $$stream && !defined $r->{ttft};
        }

        is "@bad[0 .. ($#bad > 9 ? 9 : $#bad)]", '', 'the ledger says all';
    };
}


subtest 'refused, moved on, broken, paid' => sub {
    $t->post('/api/chat', { model => 'm1', messages => [] }, as => $poor);
    my $r = ledger();
    is $r->{$_->[0]}, $_->[1], "refused: $_->[0]" for [ client => 'poor' ],
        [ status => 403 ], [ outcome => 'denied' ],
        [ reason => 'model_denied' ], [ backend => '' ], [ retries => undef ],
        [ load => undef ], [ ttft => undef ], [ first_byte => undef ],
        [ input_tokens => undef ];

    my $done = qq({"model":"m","response":"x","done":true,"eval_count":3,)
        . qq("prompt_eval_count":5,"eval_duration":30000000}\n);
    $odd->answer(200, $done, 'Content-Type' => 'application/x-ndjson');
    stream($t, '/api/generate', { model => 'late', prompt => 'x' });
    $r = ledger();
    is $r->{$_->[0]}, $_->[1], "moved on: $_->[0]" for [ backend => 'odd' ],
        [ backends => 'dead,odd' ], [ retries => 1 ], [ fallback => 'error' ],
        [ outcome => 'ok' ], [ tokens_per_second => 100 ];

    is $r->{body}, 0, 'the body was there at once';

    # a first choice that takes its time to fail is no slow generation
    $odd->answer(200, $done, 'Content-Type' => 'application/x-ndjson');
    $forge->behave(status => 503, delay_ms => 600);
    stream($t, '/api/generate', { model => 'slow', prompt => 'x' });
    $forge->behave;
    $r = ledger();
    is $r->{backends}, 'forge,odd', 'moved on late';
    cmp_ok $r->{failed}, '>=', 0.6, "failed: $r->{failed}";
    cmp_ok $r->{total}, '>=', $r->{failed}, 'of all';
    cmp_ok $r->{ttft}, '<', $r->{failed}, 'and not of the first token';
    cmp_ok $r->{first_byte}, '>=', $r->{failed}, 'but of the first byte';
    cmp_ok $r->{first_byte}, '<=', $r->{total} + 0.002, 'which came before all';

    # nor is a client that takes its time to ask
    $odd->answer(200, $done, 'Content-Type' => 'application/x-ndjson');
    my $s = $t->open;
    my $body = '{"model":"odd","prompt":"x"}';
    $s->send("POST /api/generate HTTP/1.1\r\nHost: gateway\r\n"
        . "Connection: close\r\nContent-Length: " . length($body) . "\r\n"
        . $t->auth_lines . "\r\n" . substr $body, 0, 9);
    Time::HiRes::sleep(0.4);
    $s->send(substr $body, 9);
    like $s->read_until, qr{^HTTP/1.1 200 }, 'a slow client';
    $r = ledger();
    cmp_ok $r->{body}, '>=', 0.35, "body: $r->{body}";

    # what can't be is not believed
    $odd->answer(200, qq({"model":"m","response":"x","done":true,)
        . qq("load_duration":900000000000000,"eval_count":999999999,)
        . qq("prompt_eval_duration":900000000000000,"eval_duration":1}\n),
        'Content-Type' => 'application/x-ndjson');
    stream($t, '/api/generate', { model => 'odd', prompt => 'x' });
    $r = ledger();
    is $r->{$_}, undef, "$_ is not believed"
        for qw(load prompt per_token tokens_per_second);
    ok !$r->{cold}, 'nor that it was loaded';

    # queries may have keys
    $t->get('/api/tags?key=secret');
    $r = ledger();
    is $r->{path}, '/api/tags', 'a path';
    unlike $t->log('ledger.json'), qr/secret/, 'and no query';

    # nobody writes what is not JSON
    $t->raw("GET /\xff\xfe\"\\?key=secret HTTP/1.1\r\nHost: gateway\r\n"
        . "Connection: close\r\n\r\n");
    $r = ledger();
    is $r->{status}, 401, 'who is not let in';
    is $r->{path}, '', 'and his path';

    $odd->answer(200, $done, 'Content-Type' => 'application/x-ndjson');
    stream($t, '/api/generate', { model => 'paid', prompt => 'x' });
    is ledger()->{cost}, 0.000011, 'paid';

    $odd->steps({ send => head('application/x-ndjson',
        'Transfer-Encoding' => 'chunked') . "5\r\n{\"mod" });
    stream($t, '/api/generate', { model => 'odd', prompt => 'x' });
    $r = ledger();
    is $r->{outcome}, 'broken', 'broken';
    $t->expect_log(qr/backend "odd" has broken off its stream|prematurely/);
    $t->expect_log(qr/connect\(\) failed/);
};

$t->done;
