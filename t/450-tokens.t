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
my $forge = $t->backend('forge', models => 'f', tokens => 40, token_ms => 5);
my $odd = HybridOdd->new($t, 'odd');
my $alice = $t->{as} = $t->token('alice');
my $key = $t->file('key', "the-key\n");
my ($plain, $barrier, $beat, $buffered) = 1 .. 4;

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
    . <<"END");
    hybrid_client alice { $alice->{line} models * google/*; egress any; }
    hybrid_backend forge { pass http://$forge->{addr}; probe off; }
    hybrid_backend dead  { pass http://127.0.0.1:$closed; probe off; }
    hybrid_backend o     { pass http://$odd->{addr}; probe off; }
    hybrid_backend p     { pass http://$odd->{addr}; probe off; }
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
    hybrid_route moved dead o p;
    hybrid_route both o p;
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


sub answer {
    my ($type, $text, @more) = @_;
    return ({ send => head($type, 'Content-Length' => length $text) },
            { drip => $text, pause => 0 }, @more);
}


subtest 'told, byte by byte' => sub {
    for my $port ($plain, $barrier, $beat, $buffered) {
        for my $case (@whole, @clouds) {
            my ($name, $path, $model, $more, $type, $text) = @$case;
            my $cost = $model ? '-' : '2.200000';

            $odd->steps(answer($type, $text));
            my $r = stream($t, $path, body($model, $more),
                           port => $t->port($port));
            is $r->{status}, 200, "$name, $port";
            is used(), "11 22 told $cost", 'told';
        }
    }
};


$t->done;
