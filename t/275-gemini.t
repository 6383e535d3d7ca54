# Requests of the Gemini API and of Vertex AI: the model is in the path, and
# the path that a backend sees is made of its own project and location.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;

my $t = Hybrid->new;
my %b = map { $_ => $t->backend($_) } qw(vertex gemini other forge);
my %client = map { $_ => $t->token($_) } qw(alice local narrow reader);
my $key = $t->file('key', "the-key-of-google\n");
my $bearer = $t->file('bearer', "the-token-of-google\n");
my $own = '/v1beta1/projects/own-p/locations/europe-west4';

$t->start(http => <<"END");
    hybrid_client alice { $client{alice}{line} models *; egress any;
        models google/* anthropic/* mistralai/* google/*-cloud library/*; }
    hybrid_client local { $client{local}{line} models google/*; }
    hybrid_client narrow { $client{narrow}{line} egress any;
        models google/gemini-2.0* anthropic/claude*; }
    hybrid_client reader { $client{reader}{line} models google/*; verbs read;
        egress any; }

    hybrid_backend vertex {
        pass http://$b{vertex}{addr}$own/endpoints/openapi; api openai;
        egress cloud; credential bearer $bearer; host aiplatform.test;
        models google/* anthropic/* mistralai/*;
        rename google/old* google/gemini-2.5-pro;
        rename google/cross* anthropic/claude;
        rename google/bare* gemini-bare;
        rename google/tag* google/gemini:tag;
    }
    hybrid_backend gemini {
        pass http://$b{gemini}{addr}/v1beta/openai; api openai; egress cloud;
        credential header x-goog-api-key $key; models google/*;
        rename google/bare* gemini-bare;
    }
    hybrid_backend forge { pass http://$b{forge}{addr}; probe off; }
    hybrid_backend azure { pass http://$b{other}{addr}/v1/openai; api openai;
                           egress cloud; }

    hybrid_route google/* vertex;
    hybrid_route google/gemini-api* forge azure gemini;
    hybrid_route google/both* vertex gemini;
    hybrid_route google/bare* vertex gemini;
    hybrid_route google/elsewhere* forge azure;
    hybrid_route anthropic/* gemini vertex;
    hybrid_route mistralai/* vertex;
    hybrid_route * vertex forge;
END

$t->{as} = $client{alice};

sub again {
    for my $b (values %b) {
        $b->clear;
        $b->behave(status => 200, body => { ok => $b->{name} }, all => 1);
    }
}

sub asked { my $n = 0; $n += $_->stats->{requests} for values %b; return $n }

my $body = '{"contents":[{"parts":[{"text":"model"}]}]}';
my $vertex = '/projects/theirs/locations/us-central1/publishers';

sub ask {
    my ($path, $content, %o) = @_;
    return $t->post($path, $content // $body, %o,
        headers => { 'Content-Type' => 'application/json',
                     %{$o{headers} || {}} });
}

sub goes {
    my ($path, $name, $target, $content, $sent) = @_;
    my $r = ask($path, $content);
    is $r->{status}, 200, $path or diag $r->{content};
    is $r->{headers}{'x-hybrid-backend'}, $name, "to $name";
    my $seen = $b{$name}->last;
    is "$seen->{method} $seen->{target}", "POST $target", 'at its own path';
    is $seen->{body}, $sent // $content // $body, 'the body';
    return $seen;
}

# status, reason, and Google's status word
sub refused {
    my ($path, $want, $content, %o) = @_;
    my $before = asked();
    my $r = ask($path, $content, %o);
    my ($code, $reason, $status) = split ' ', $want;
    is "$r->{status} $r->{headers}{'x-hybrid-reason'}", "$code $reason", $path
        or diag $r->{content};
    is asked(), $before, 'no backend was asked';
    return if !$status;
    my $error = $r->{json}{error};
    is "$error->{code} $error->{status}", "$code $status", "Google's error";
    ok length $error->{message};
}

again();


subtest 'Vertex' => sub {
    for my $action (qw(generateContent countTokens predict)) {
        goes("$_$vertex/google/models/gemini-2.0-flash-001:$action", 'vertex',
            "$own/publishers/google/models/gemini-2.0-flash-001:$action")
            for qw(/v1 /v1beta1);
    }

    my $seen = goes("/v1$vertex/google/models/gemini-1.5:generateContent",
        'vertex', "$own/publishers/google/models/gemini-1.5:generateContent");
    is $seen->{header}{authorization}, 'Bearer the-token-of-google';
    is $seen->{header}{host}, 'aiplatform.test', 'and its name';
    ok !exists $seen->{header}{$_}, "no $_"
        for qw(x-hybrid-client x-goog-api-key);

    goes("/v1$vertex/google/models/gemini-2.0:streamGenerateContent$_",
        'vertex',
        "$own/publishers/google/models/gemini-2.0:streamGenerateContent$_")
        for '', '?alt=sse';

    for my $action (qw(rawPredict streamRawPredict)) {
        my $claude = "claude-sonnet-4\@20250514:$action";
        goes("/v1$vertex/anthropic/models/$claude", 'vertex',
            "$own/publishers/anthropic/models/$claude",
            '{"anthropic_version":"vertex-2023-10-16","messages":[]}');
        goes("/v1$vertex/mistralai/models/mistral-large\@2411:$action",
            'vertex',
            "$own/publishers/mistralai/models/mistral-large\@2411:$action");
    }
};


subtest 'the Gemini API' => sub {
    for my $action (qw(generateContent countTokens embedContent
                       batchEmbedContents))
    {
        my $seen = goes("$_/models/gemini-api-1:$action", 'gemini',
            "/v1beta/models/gemini-api-1:$action") for qw(/v1 /v1beta);
    }

    my $seen = goes('/v1beta/models/gemini-api-1:streamGenerateContent?alt=sse',
        'gemini', '/v1beta/models/gemini-api-1:streamGenerateContent?alt=sse');
    is $seen->{header}{'x-goog-api-key'}, 'the-key-of-google';
    ok !exists $seen->{header}{authorization};

    # SDKs send their key so
    my $r = ask('/v1beta/models/gemini-api-1:generateContent', undef,
        as => undef, headers => { 'x-goog-api-key' =>
            $client{alice}{bearer} =~ s/^Bearer //r });
    is $r->{status}, 200, 'x-goog-api-key' or diag $r->{content};
    is $b{gemini}->last->{header}{'x-goog-api-key'}, 'the-key-of-google';
    unlike Hybrid::encode($b{gemini}->last), qr/\Q$client{alice}{secret}\E/;

    # each form at the other cloud
    goes('/v1beta/models/gemini-2.0:generateContent', 'vertex',
         "$own/publishers/google/models/gemini-2.0:generateContent");
    goes("/v1$vertex/google/models/gemini-api-2:generateContent", 'gemini',
         '/v1beta/models/gemini-api-2:generateContent');
};


subtest 'fail-over' => sub {
    my $path = "/v1$vertex/google/models/both-1:generateContent";

    $b{vertex}->behave(status => 503, all => 1);
    goes($path, 'gemini', '/v1beta/models/both-1:generateContent');
    is $b{vertex}->last->{target},
        "$own/publishers/google/models/both-1:generateContent";
    $b{gemini}->behave(status => 429, all => 1);
    is ask($path)->{status}, 429, 'the last answer';
    again();
};


subtest 'rename' => sub {
    my $new = "$own/publishers/google/models/gemini-2.5-pro";

    goes('/v1beta/models/old-1:generateContent', 'vertex',
         "$new:generateContent");
    goes('/v1beta/models/old-1:streamGenerateContent?alt=sse', 'vertex',
         "$new:streamGenerateContent?alt=sse");

    for my $name ('old-1', 'models/old-1', 'google/old-1',
                  'publishers/google/models/old-1')
    {
        my $sent = $name =~ s/old-1/gemini-2.5-pro/r;
        goes('/v1beta/models/old-1:generateContent', 'vertex',
             "$new:generateContent", qq({"a":"old-1","model" : "$name","b":1}),
             qq({"a":"old-1","model" : "$sent","b":1}));
    }

    goes('/v1beta/models/bare-1:generateContent', 'gemini',
         '/v1beta/models/gemini-bare:generateContent');
    refused("/v1$vertex/google/models/$_:generateContent",
            '404 model_not_found NOT_FOUND') for 'cross-1', 'tag-1';
    refused('/v1beta/models/bare-1:batchEmbedContents',
            '404 model_not_found NOT_FOUND');
};


subtest 'the model in the body' => sub {
    my $path = '/v1beta/models/gemini-api-1';
    my $at = '/v1beta/models/gemini-api-1';

    goes("$path:generateContent", 'gemini', "$at:generateContent", $_) for
        map { qq({"model":$_}) } qw(null "gemini-api-1" "models/gemini-api-1"
            "google/gemini-api-1" "publishers/google/models/gemini-api-1");

    refused("$path:generateContent", '400 ambiguous_model INVALID_ARGUMENT',
            $_) for map { qq({"model":$_}) } qw("" "models/" 1 true [] {}
        "gemini-api-2" "models/gemini-api-2" "Gemini-api-1" "gemini-api-1\t"
        "gemini\u002dapi-1" "google/gemini-api-2" "other/gemini-api-1"
        "models/google/gemini-api-1" "publishers/google/gemini-api-1"
        "publishers/other/models/gemini-api-1" "google/models/gemini-api-1"
        "/gemini-api-1" "tunedModels/gemini-api-1" "models/gemini-api-1:x");

    my $batch = sub { '{"requests":[' . join(',', map {
        qq({"model":$_,"content":{"model":"x"}}) } @_) . ']}' };

    goes("$path:batchEmbedContents", 'gemini', "$at:batchEmbedContents", $_)
        for $batch->(('"models/gemini-api-1"') x 3),
            $batch->('"gemini-api-1"'), '{"requests":[{"content":{}}]}',
            '{"requests":[]}';
    refused("$path:batchEmbedContents", '400 ambiguous_model INVALID_ARGUMENT',
            $_) for $batch->('"models/gemini-api-1"', '"models/gemini-api-2"'),
            '{"requests":{"model":"models/gemini-api-2"}}',
            '{"requests":"models/gemini-api-2"}',
            $batch->('"models/gemini-api-2"'), $batch->('1'), $batch->('""'),
            $batch->('"models/gemini-api-1","Model":"b"'),
            $batch->('"models/gemini-api-1"', '"gemini-api-1"');
    refused("$path:countTokens", '400 ambiguous_model INVALID_ARGUMENT',
            '{"generate_content_request":{"model":"models/gemini-api-2"}}');

    refused("$path:countTokens", '400 invalid_body INVALID_ARGUMENT', $_) for
        '{"generateContentRequest":{"model":"models/gemini-api-2"}}', '', '[]',
        '{"model":"gemini-api-1","model":"gemini-api-1"}', '{"Model":"x"}',
        '{} {}', '{"model":"gemini-api-1"';
};


subtest 'policy' => sub {
    my $path = '/v1beta/models/gemini-2.0-flash:generateContent';

    refused($path, '401 unauthenticated UNAUTHENTICATED', undef, as => undef);
    refused($path, '403 egress PERMISSION_DENIED', undef,
            as => $client{local});
    refused($path, '403 verb PERMISSION_DENIED', undef, as => $client{reader});
    is ask($path, undef, as => $client{narrow})->{status}, 200;

    # the same model, whatever URL names it
    for my $name ('gemini-1.5', 'gemini-2.5', 'GEMINI-1.5') {
        refused($_, '403 model_denied PERMISSION_DENIED', undef,
                as => $client{narrow}) for
            "/v1beta/models/$name:generateContent",
            "/v1/models/$name:countTokens",
            "/v1$vertex/google/models/$name:generateContent";
    }

    refused("/v1$vertex/mistralai/models/x:rawPredict", '403 model_denied',
            undef, as => $client{narrow});
    refused('/v1beta/models/gemini-2.0-cloud:generateContent',
            '403 model_denied PERMISSION_DENIED', undef,
            as => $client{narrow});
    refused('/v1beta/models/elsewhere-1:generateContent',
            '404 model_not_found NOT_FOUND');

    # what the other cloud does not have
    refused('/v1beta/models/gemini-2.0:embedContent',
            '404 model_not_found NOT_FOUND');
    refused("/v1$vertex/google/models/gemini-api-1:$_",
            '404 model_not_found') for qw(predict rawPredict);

    refused("/v1$vertex/library/models/$_:generateContent",
            '400 invalid_model INVALID_ARGUMENT')
        for 'x', 'library', 'library-x';
    refused("/v1$vertex/Google/models/gemini-1.5:generateContent",
            '400 invalid_model INVALID_ARGUMENT');
    refused('/v1beta/models/gemini-1.5:generateContent',
            '415 content_encoding INVALID_ARGUMENT', undef,
            headers => { 'Content-Encoding' => 'zstd' });
    refused("/v1$vertex/google/models/x:embedContent", '403 endpoint');
    refused('/v1beta/models/x:rawPredict', '403 endpoint PERMISSION_DENIED');

    my $r = ask("/v1$vertex/anthropic/models/x:rawPredict", '[]');
    is $r->{status}, 400;
    is $r->{json}{type}, 'error', 'rawPredict has Anthropic\'s errors';
};


subtest 'the query' => sub {
    for my $query ('?', '?key=secret', '?alt=json', '?alt=sse&key=x',
                   '?key=x&alt=sse', '?alt=SSE', '?alt=sse&', '?&alt=sse',
                   '?alt=%73se', '?$alt=sse', '?alt=sse?')
    {
        refused("/v1beta/models/gemini-1.5:streamGenerateContent$query",
                '400 query INVALID_ARGUMENT');
    }

    refused("/v1beta/models/gemini-1.5:$_?alt=sse",
            '400 query INVALID_ARGUMENT') for 'generateContent', 'countTokens';
    my $before = asked();
    like $t->raw("POST /v1beta/models/gemini-1.5:streamGenerateContent$_ "
            . "HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" . $t->auth_lines
            . "Content-Length: 2\r\n\r\n{}"),
        qr/^HTTP\/1.1 40[03] /, $_ for '?alt=sse#x', '#?alt=sse', '?alt=sse%00';
    is asked(), $before, 'no backend was asked';

    unlike $t->log('error.log'), qr/key=secret/, 'not in the error log';
};


subtest 'other paths' => sub {
    my $model = 'google/models/gemini-1.5:generateContent';

    for my $path (
        (map { "/v1beta/models/$_" } 'gemini-1.5', 'gemini-1.5:', ':x',
            ':generateContent', 'gemini-1.5:generatecontent',
            'gemini-1.5:generateContent/', 'gemini-1.5:generateContent:x',
            'gemini-1.5::generateContent', 'a:b:generateContent',
            'gemini-1.5%3AgenerateContent', 'gemini-1.5:%67enerateContent',
            'gemini%2d1.5:generateContent', 'a/b:generateContent',
            'a%2fb:generateContent', '../x:generateContent', '.:countTokens',
            '..:countTokens', '-x:generateContent', 'a+b:generateContent',
            'a;b:generateContent', 'a\\b:generateContent', 'a*:countTokens',
            'gemini-1.5:generateContent;x', 'gemini-1.5:generateContent%20',
            'gemini-1.5:generateContent%00x' =~ s/%00//r,
            'x' x 128 . ':generateContent', 'gemini-1.5:deleteAll',
            'gemini-1.5:batchGenerateContent', 'x:generateContent.'),
        "//v1beta/models/gemini-1.5:generateContent",
        '/v1beta//models/gemini-1.5:generateContent',
        '/V1beta/models/gemini-1.5:generateContent',
        '/v2/models/gemini-1.5:generateContent',
        '/v1alpha/models/gemini-1.5:generateContent',
        '/v1beta/tunedModels/gemini-1.5:generateContent',
        '/v1beta/./models/gemini-1.5:generateContent',
        '/v1beta/openai/chat/completions', '/v1beta/files',
        '/v1beta/cachedContents', '/v1beta/models', '/upload/v1beta/files',
        (map { "/v1/projects/$_/$model" } '', 'p', 'p/locations/l',
            'locations/l/publishers',
            '../locations/l/publishers',
            'p/locations/../publishers', 'p/../locations/l/publishers',
            'p/locations/l/x/publishers', 'p%2fx/locations/l/publishers',
            '.p/locations/l/publishers', 'p/locations/l.x/publishers',
            'p/locations//publishers', 'p//locations/l/publishers',
            'p/locations/l/endpoints/1/publishers', 'x' x 128
            . '/locations/l/publishers'),
        "/v1beta/projects/p/locations/l/publishers/$model",
        '/v1/projects/p/locations/l/publishers/goo.gle/models/x:countTokens',
        '/v1/projects/p/locations/l/publishers/a_b/models/x:countTokens',
        '/v1/projects/p/locations/l/endpoints/1:predict',
        '/v1/projects/p/locations/l/endpoints/openapi/chat/completions',
        '/v1/projects/p/locations/l/models/x:predict')
    {
        my $before = asked();
        my $r = ask($path);
        like "$r->{status} $r->{headers}{'x-hybrid-reason'}",
            qr/^(?:403 endpoint|405 method)$/, $path;
        is asked(), $before, 'no backend was asked';
    }

    for my $method (qw(GET HEAD PUT DELETE PATCH OPTIONS)) {
        my $r = $t->request($method, '/v1beta/models/x:generateContent');
        is "$r->{status} $r->{headers}{allow}", '405 POST', $method;
    }

    # a model of OpenAI's that is only named like that
    is $t->get('/v1/models/x:generateContent')->{headers}{'x-hybrid-backend'},
        'forge', 'GET /v1/models/NAME';
};

$t->done;
