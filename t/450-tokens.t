# Tokens and money: what a backend tells is taken as it is told, in every
# dialect, whole and streamed, byte by byte; what it does not is estimated.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridOdd;
use HybridStream;
use Test::More;

my $t = Hybrid->new;
my $forge = $t->backend('forge', models => 'f,moved,both', tokens => 40);
my $odd = HybridOdd->new($t, 'odd');
my $alice = $t->{as} = $t->token('alice');
my $key = $t->file('key', "the-key\n");
my ($plain, $barrier, $beat, $buffered, $files) = 1 .. 5;

sub server {
    my ($port, $more, $buffering) = @_;
    local $_ = Hybrid::_slurp("$Hybrid::ROOT/conf/hybrid_proxy.conf");

    if ($buffering) {
        s/^proxy_buffering .*;/proxy_buffering on;/m or die;
        s/^(proxy_max_temp_file_size) .*;/$1 1024m;/m or die;
    }

    my $file = $t->file("proxy.$port", $_);
    return "server { listen 127.0.0.1:%PORT$port% sndbuf=16k; location / {"
           . " hybrid_access token; $more include $file; } }\n";
}

my $closed = $t->closed_port;

$t->start(http => server($plain, '') . server($barrier, 'hybrid_barrier 8k 9s;')
    . server($beat, 'hybrid_heartbeat 100ms;') . server($buffered, '', 1)
    . server($files, 'sendfile on;', 1)
    . <<"END");
    hybrid_client alice { $alice->{line} models * google/*; egress any; }
    hybrid_backend forge { pass http://$forge->{addr}; probe off; }
    hybrid_backend dead  { pass http://127.0.0.1:$closed; probe off; }
    hybrid_backend o     { pass http://$odd->{addr}; probe off; }
    hybrid_backend cloud {
        pass http://$odd->{addr}/v1/projects/p/locations/l/endpoints/openapi;
        api openai; egress cloud; host cloud.test; credential bearer $key;
        price input=0.10 output=0.400001;
    }
    hybrid_backend gemini {
        pass http://$odd->{addr}/v1beta/openai; api openai; egress cloud;
        credential header x-goog-api-key $key; price output=100000;
    }
    hybrid_route f forge;
    hybrid_route o o;
    hybrid_route moved dead forge;
    hybrid_route both o forge;
    hybrid_route google/* gemini;
    hybrid_route c cloud;
    log_format tokens '\$hybrid_input_tokens \$hybrid_output_tokens'
                      ' \$hybrid_usage \$hybrid_cost';
    access_log tokens.log tokens;
    access_log access.log combined;
END

my $lines = 0;

# what the log says of the last request
sub used {
    my @lines;
    poll { @lines = split /\n/, $t->log('tokens.log'); @lines > $lines };
    $lines++;
    return $lines[$lines - 1] // 'nothing';
}

my ($json, $sse, $ndjson)
    = qw(application/json text/event-stream application/x-ndjson);
my $chat = '/v1/chat/completions';

sub event { return join '', map { "data: $_\n\n" } @_ }

sub delta {
    return event map { qq({"choices":[{"delta":{"content":"$_"}}]}) } @_;
}

# the user's words are no numbers, wherever they are
my $lie = '\"},\"usage\":{\"prompt_tokens\":999,\"completion_tokens\":999}';
my $args = '"usage":{"prompt_tokens":9,"completion_tokens":9},"eval_count":9,'
    . '"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":9}';
my $end = '"total_duration":9,"prompt_eval_count":11,"eval_count":22}';
my $usage = '"usage":{"prompt_tokens":11,"completion_tokens":22}';
my $in_out = '"input_tokens":11,"output_tokens":22';
my $opening = event '{"type":"message_start","message":{"content":[],"usage":'
    . '{"input_tokens":4,"cache_creation_input_tokens":5,'
    . '"cache_read_input_tokens":2,"output_tokens":1}}}';
my $closing = event '{"type":"message_delta","delta":{"stop_reason":"x"},'
    . '"usage":{"output_tokens":22}}', '{"type":"message_stop"}';
my $spent = '"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":%d'
    . ',"thoughtsTokenCount":20,"toolUsePromptTokenCount":1}';

sub part {
    my ($text, $n, $more) = @_;
    return qq({"candidates":[{"content":{"parts":[{"text":"$text"}]}$more}],)
           . sprintf($spent, $n) . '}';
}

my @parts = (part('a', 1, ''), part($lie, 2, ',"finishReason":"STOP"'));

# [ name, path, model, the rest of the body, type, answer ]: 11 and 22
my @whole = (
[ 'Ollama', '/api/chat', 'o', '', $ndjson,
  qq({"message":{"content":"$lie"},"done":false}\n)
  . '{"message":{"content":"","tool_calls":[{"function":{"arguments":'
  . qq({$args}}}]},"done":false}\n{"done":true,"context":[1,2],$end\n) ],
[ 'Ollama, whole', '/api/generate', 'o', ',"stream":false', "$json; charset=x",
  qq({"response":"$lie","done":true,"x":{$args},$end) ],
[ 'Ollama, completion', '/v1/completions', 'o', ',"stream":true', $sse,
  event('{"choices":[{"text":"x"}],"usage":{"prompt_tokens":0,'
        . '"completion_tokens":0}}', qq({"choices":[],$usage}), '[DONE]') ],
[ 'OpenAI', $chat, 'o', ',"stream":true', $sse, delta($lie, 'b')
  . event('{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":null}',
          qq({"choices":[],$usage}), '[DONE]') ],
[ 'OpenAI, whole', $chat, 'o', '', $json,
  qq({"choices":[{"message":{"content":"$lie","tool_calls":[{"function":)
  . qq({"arguments":"{$lie}"}}],"x":{$args}}}],$usage}) ],
[ 'responses', '/v1/responses', 'o', ',"stream":true', $sse,
  event('{"type":"response.created","response":{"usage":null,"metadata":{'
        . qq($args}}}), qq({"type":"x","delta":"$lie"}),
        qq({"type":"response.completed","response":{"output":[{"content":)
        . qq([{"text":"ab"}]}],"usage":{$in_out,"input_tokens_details":)
        . '{"cached_tokens":5}}}}') ],
[ 'responses, whole', '/v1/responses', 'o', '', $json,
  qq({"output":[{"content":[{"text":"$lie"}]}],"metadata":{$args},)
  . qq("usage":{$in_out}}) ],
[ 'Anthropic', '/v1/messages', 'o', ',"stream":true', $sse, $opening
  . event(qq({"type":"x","delta":{"text":"$lie"}}), '{"type":"ping"}')
  . $closing ],
[ 'Anthropic, whole', '/v1/messages', 'o', '', $json,
  qq({"content":[{"type":"text","text":"$lie"},{"type":"tool_use","input":)
  . qq({$args}}],"usage":{"input_tokens":4,"output_tokens":22,)
  . '"cache_creation_input_tokens":5,"cache_read_input_tokens":2,'
  . '"cache_creation":{"input_tokens":9}}}' ],
);

my @clouds = (
[ 'Gemini', '/v1beta/models/g:streamGenerateContent?alt=sse', '', '', $sse,
  event(@parts) ],
[ 'Gemini, an array', '/v1beta/models/g:streamGenerateContent', '', '', $json,
  "[$parts[0]\n,\r\n$parts[1]\n]\n" ],
[ 'Gemini, whole', '/v1beta/models/g:generateContent', '', '', $json,
  qq({"candidates":[{"content":{"parts":[{"text":"$lie"},{"functionCall":)
  . qq({"args":{$args}}}]}}],) . sprintf($spent, 2) . '}' ],
);


sub body {
    my ($model, $more) = @_;
    return length $model ? qq({"model":"$model"$more,"messages":[{"role":)
                           . '"user","content":"hi there"}]}'
                         : qq({"contents":[{"parts":[{"text":"hi"}]}]$more});
}


# the body's bytes / 4
sub guess { return int((length(body(@_)) + 3) / 4) }


# a chunk a byte: nginx passes them on as they are
sub answer {
    my ($type, $text, @more) = @_;
    return { send => head($type, 'Transfer-Encoding' => 'chunked')
             . chunked(split //, $text) }, @more;
}


# cut off: what has come is all there is
sub begun {
    my ($type, $text, @more) = @_;
    return { send => head($type, 'Content-Length' => 99999) . $text }, @more;
}


# the request, and what the log says of it
sub ask {
    my ($path, $model, $more, %o) = @_;
    my $r = stream($t, $path, body($model, $more), %o);
    return ($r, used());
}


subtest 'told, byte by byte' => sub {
    for my $port ($plain, $barrier, $beat, $buffered) {
        for my $case (@whole, @clouds) {
            my ($name, $path, $model, $more, $type, $text) = @$case;
            my $cost = $model ? '-' : '2.200000';

            $odd->steps(answer($type, $text));
            my ($r, $used) = ask($path, $model, $more,
                                 port => $t->port($port));
            is $r->{status}, 200, "$name, $port";
            is $used, "11 22 told $cost", 'told';
        }
    }
};


subtest 'by the demo backend' => sub {
    my @asked = ([ '/api/chat', '' ], [ '/api/generate', ',"prompt":"a b"' ],
                 [ $chat, '' ], [ '/v1/completions', ',"prompt":"a b"' ],
                 [ '/v1/messages', '' ]);

    for my $stream ('true', 'false') {
        for my $case (@asked) {
            my ($r, $used) = ask($case->[0], 'f',
                                 qq(,"stream":$stream$case->[1]));
            is $r->{status}, 200, "$case->[0], $stream";
            is $used, '2 40 told -', 'told';
        }
    }

    for my $path ('/api/embed', '/v1/embeddings') {
        my ($r, $used) = ask($path, 'f', ',"input":["a b","c"]');
        is $used, '3 0 told -', $path;
    }
};


# events, tokens that have come, and the input when it has been told
my @parted = (
[ 'Ollama', '/api/chat', 'o', '', $ndjson, 3, 0,
  join '', map { qq({"message":{"content":"$_"},"done":false}\n) } 1 .. 3 ],
[ 'Ollama, before the end of a line', '/api/chat', 'o', '', $ndjson, 1, 0,
  '{"message":{"content":"a' ],
[ 'Ollama, the last line is not whole', '/api/generate', 'o', '', $ndjson, 7,
  11, '{"response":"a"}' . qq(\n{"done":true,"prompt_eval_count":11,)
  . '"eval_count":7,"context":[1' ],
[ 'Ollama, whole', '/api/chat', 'o', ',"stream":false', $json, 5, 0,
  '{"message":{"content":"12345678901234567' ],
[ 'OpenAI', $chat, 'o', ',"stream":true', $sse, 3, 0, delta(1 .. 3) ],
[ 'OpenAI, zeros', '/v1/completions', 'o', ',"stream":true', $sse, 2, 0,
  event(('{"choices":[{"text":"x","finish_reason":"stop"}],"usage":{'
         . '"prompt_tokens":0,"completion_tokens":0}}') x 2) ],
[ 'OpenAI, much in an event', $chat, 'o', ',"stream":true', $sse, 101, 0,
  delta('x' x 400, 'y') ],
[ 'Anthropic', '/v1/messages', 'o', ',"stream":true', $sse, 2, 11,
  $opening . event('{"delta":{"text":"a"}}', '{"delta":{"text":"a"}}') ],
[ 'Anthropic, at first', '/v1/messages', 'o', ',"stream":true', $sse, 1, 11,
  $opening ],
[ 'Gemini', '/v1beta/models/g:streamGenerateContent?alt=sse', '', '', $sse,
  21, 11, event($parts[0]) ],
[ 'Gemini, an array', '/v1beta/models/g:streamGenerateContent', '', '', $json,
  21, 11, "[$parts[0],\r\n" ],
[ 'nothing', '/api/chat', 'o', '', $ndjson, 0, 0, '' ],
);

subtest 'cut off by the client, by the backend' => sub {
    for my $case (@parted) {
        my ($name, $path, $model, $more, $type, $n, $input, $text) = @$case;
        my $cost = $model ? '-' : sprintf '%.6f', $n / 10;
        my $want = ($input || guess($model, $more)) . " $n estimated $cost";

        $odd->steps(begun($type, $text));
        my ($r, $used) = ask($path, $model, $more);
        is $r->{status}, 200, "$name: the backend";
        is $used, $want, 'what has come';

        $odd->steps(begun($type, $text, { hang => 1 }));
        ($r, $used) = ask($path, $model, $more,
                          until => qr/\r\n\r\n\Q$text\E|\Q$text\E\r\n\z/);
        is $used, $want, 'the client';
    }
};


subtest 'not told, or not to be looked into' => sub {
    my $end = event('{"choices":[{"delta":{},"finish_reason":"stop"}]}',
                    '[DONE]');
    my @cases = (
        [ $sse, delta(1 .. 5) . $end, guess('o', ''), 5 ],
        [ $json, '{"choices":[{"message":{"content":"' . 'x' x 40 . '"}}]}',
          guess('o', ''), 10 ],
        [ "$json\r\nContent-Encoding: x", 'x' x 40, guess('o', ''), 10 ],
        [ 'text/plain', 'x' x 40, guess('o', ''), 10 ]);

    for my $case (@cases) {
        my ($type, $text, @want) = @$case;
        $odd->steps(answer($type, $text));
        my ($r, $used) = ask($chat, 'o', '');
        is $used, "@want estimated -", $type;
    }

    $odd->answer(200, '{"embedding":[1,2]}', 'Content-Type' => $json);
    my ($r, $used) = ask('/api/embeddings', 'o', '');
    is $used, guess('o', '') . ' 0 estimated -', 'embeddings';

    $odd->answer(200, '{"done":true,"done_reason":"load"}',
                 'Content-Type' => $json);
    ($r, $used) = ask('/api/generate', 'o', ',"stream":false');
    is $used, '0 0 told -', 'a model is loaded';

    # money is rounded up
    $odd->answer(200, qq({$usage}), 'Content-Type' => $json);
    ($r, $used) = ask($chat, 'c', '');
    is $used, '11 22 told 0.000010', 'the price of a cloud';
};


subtest 'spooled by nginx' => sub {
    $odd->steps({ send => head($sse) . delta('abc') x 60000
                          . event(qq({"choices":[],$usage}), '[DONE]') });
    my $body = body('o', ',"stream":true');
    my $s = $t->open(port => $t->port($files));

    $s->send("POST $chat HTTP/1.0\r\nContent-Length: " . length($body)
             . "\r\n" . $t->auth_lines . "\r\n$body");
    $s->read_until(qr/abc/);
    poll { $t->log('error.log') =~ /response is buffered to a temp/ };
    like $s->read_until, qr/\[DONE\]\n\n\z/, 'all of it';
    $s->close;

    my ($in, $out, $how) = split ' ', used();
    is $how, 'estimated', 'not told';
    cmp_ok abs($out - 60000), '<', 3000, "$out is about what it was";

    # without sendfile nginx reads it again
    my ($r, $used) = ask($chat, 'o', ',"stream":true',
                         port => $t->port($buffered));
    is $used, '11 22 told -', 'told';
};


subtest 'no backend has answered' => sub {
    my $none = '- - - -';
    my ($r, $used);

    for my $status (400, 404, 429, 500, 503) {
        $odd->answer($status, qq({"error":"x",$usage}),
                     'Content-Type' => $json);
        ($r, $used) = ask($chat, 'o', '');
        is "$r->{status} $used", "$status $none", "a backend's $status";

        $odd->steps({ pause => 0.25 }, @{$odd->{mode}{steps}});
        ($r, $used) = ask($chat, 'o', ',"stream":true',
                          port => $t->port($beat));
        is "$r->{status} $used", "200 $none", 'after a heartbeat';
    }

    $odd->steps({ send => '' });
    ($r, $used) = ask($chat, 'o', '');
    is "$r->{status} $used", "502 $none", 'nothing from the backend';

    $odd->steps({ hang => 1 });
    my $s = $t->open;
    my $body = body('o', '');
    $s->send("POST $chat HTTP/1.0\r\nContent-Length: " . length($body)
             . "\r\n" . $t->auth_lines . "\r\n$body");
    poll { $odd->connections };
    $s->close;
    is used(), $none, 'the client has left before';

    $odd->answer(200, qq({"input_tokens":11,$usage}), 'Content-Type' => $json);
    ($r, $used) = ask('/v1/messages/count_tokens', 'o', '');
    is "$r->{status} $used", "200 $none", 'counting is free';
    ($r, $used) = ask('/v1beta/models/g:countTokens', '', '');
    is "$r->{status} $used", "200 $none", 'of Gemini, too';

    ($r, $used) = ask($chat, 'unknown', '');
    is "$r->{status} $used", "404 $none", 'a refusal';
    $r = $t->get('/api/version');
    is used(), $none, 'no inference';
};


subtest 'heartbeats, and other candidates' => sub {
    for my $case (@whole) {
        my ($name, $path, $model, $more, $type, $text) = @$case;
        $odd->steps({ pause => 0.25 }, answer($type, $text));
        my ($r, $used) = ask($path, $model, $more, port => $t->port($beat));
        is $used, '11 22 told -', "$name after a heartbeat";
    }

    my ($r, $used) = ask($chat, 'moved', ',"stream":true');
    is $used, '2 40 told -', 'a dead one first';

    $odd->answer(503, qq({$usage}), 'Content-Type' => $json);
    ($r, $used) = ask($chat, 'both', ',"stream":true');
    is $used, '2 40 told -', 'one that is busy';

    # what the client has not seen does not count
    $odd->steps(begun($sse, event(qq({"choices":[],$usage}))));
    ($r, $used) = ask($chat, 'both', ',"stream":true',
                      port => $t->port($barrier));
    is $r->{header}{'x-hybrid-backend'}, 'forge', 'it has moved';
    is $used, '2 40 told -', 'one that dies before its first token';
};

$t->done;
