# What exists, by method and exact path: everything else stays here.

# a thousand requests, and no log to wait for
BEGIN { $ENV{TEST_NGINX_SLEEP} = $ENV{TEST_NGINX_USE_VALGRIND} ? 0.02 : 0.001 }

use Test::Nginx::Socket;
use HybridBlocks;

my $http = ollama('$TEST_NGINX_RAND_PORT_1') . '
    hybrid_backend b { pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1;
                       models m; }
    hybrid_route * b;
' . join '', map { client($_, "models *; verbs $_;") } qw(inference read admin);

$http .= client('all', 'models *; verbs inference read admin;');

my ($get, $head, $post, $delete) = qw(GET HEAD POST DELETE);
my $model = '{"model":"m"}';

# path => [ verb, methods, body ]; an answer of the gateway's own has a text
my %endpoint = (
    (map { $_ => [ 'inference', [$post], $model ] }
        '/api/chat', '/api/generate', '/api/embed', '/api/embeddings',
        '/v1/chat/completions', '/v1/completions', '/v1/embeddings',
        '/v1/responses', '/v1/messages', '/v1/messages/count_tokens'),
    (map { $_ => [ 'read', [ $get, $head ] ] } '/', '/api/version'),
    '/api/tags' => [ 'read', [ $get, $head ], '', '"name":"m:latest"' ],
    '/api/ps' => [ 'read', [ $get, $head ], '', '"models":\[\]' ],
    '/v1/models' => [ 'read', [ $get, $head ], '', '"id":"m:latest"' ],
    '/v1/models/m' => [ 'read', [$get] ],
    '/v1/models/m:latest' => [ 'read', [$get] ],
    '/api/show' => [ 'read', [$post], $model ],
    (map { $_ => [ 'admin', [$post], $model ] }
        '/api/pull', '/api/push', '/api/create'),
    '/api/copy' => [ 'admin', [$post], '{"source":"m","destination":"n"}' ],
    '/api/delete' => [ 'admin', [$delete], $model ],
);

my @methods = ($get, $head, $post, $delete, 'PUT', 'PATCH', 'OPTIONS');

sub expected {
    my ($who, $path, $method) = @_;
    my ($verb, $methods, undef, $own) = @{$endpoint{$path}};
    my $exists = grep { $_ eq $method } @$methods;

    # for those who may not administrate there is no such thing
    return (403, 'endpoint') if $verb eq 'admin'
                                && (!$exists || $who !~ /^(admin|all)$/);

    return (405, 'method') if !$exists;
    return (403, 'verb') if $who ne 'all' && $who ne $verb;

    return (200, '', $method eq $head ? '^$' : $own
                     || "^\Q$method $path\E localhost:11434\$");
}

my $error = '^\{"(error|type)":.*\}$';
my $own = qr{ (/api/tags|/api/ps|/v1/models)$}m;
my (@blocks, $tests);
our @data;

# [ request, who, status, reason, pattern of the answer, more headers ]
sub add {
    my ($name, @rows) = @_;
    my %row = (request => [], more_headers => [], error_code => [],
               response_headers => [], response_body_like => []);

    for (@rows) {
        my ($request, $who, $code, $reason, $answer, $more) = @$_;

        push @{$row{request}}, $request;
        push @{$row{more_headers}}, headers($who) . ($more // '');
        push @{$row{error_code}}, $code;
        my ($path) = $request =~ m{^\S+ ([^?\s]+)};
        push @{$row{response_headers}}, "X-Hybrid-Reason: $reason\n"
            . 'X-Hybrid-Backend: '
            . ($code != 200 || $request =~ $own ? '' : 'b') . "\nAllow: "
            . ($code == 405 ? join ', ', @{$endpoint{$path}[1]} : '');
        push @{$row{response_body_like}},
            $answer // ($request =~ /^HEAD/ ? '^$' : $error);
        $tests += 5;
    }

    push @data, \%row;
    push @blocks, [ 'TEST ' . @data . ": $name", http_config => $http,
        config => gateway(),
        map { ("$_ eval" => "\$::data[$#data]{$_}") } sort keys %row ];
}

for my $who (qw(inference read admin all)) {
    for my $method (@methods) {
        add("$method by $who", map {
            my ($code, $reason, $answer) = expected($who, $_, $method);
            my $body = $code == 200 ? $endpoint{$_}[2] // '' : '';
            [ "$method $_\n$body", $who, $code, $reason, $answer ]
        } sort keys %endpoint);
    }
}

# None of these is what it looks like to somebody.

my @tricks = (
    '//api/pull', '/api//pull', '/./api/pull', '/api/./pull', '/api/x/../pull',
    '/api/chat/../pull', '/api/%70ull', '/%61pi/pull', '/api%2fpull',
    '/api%2Fpull', '/api/%2e%2e/api/pull', '/API/PULL', '/Api/pull',
    '/api/pull;x', '/api/pull;', '/api/pull/', '/api/pull/.', '/api/pull%20',
    '/api/pull%0a', '/api/pull%3fx', '/api/pull%23', '/api/pull#x',
    '/api/pull.',
    '/api\\pull', '/api/pull%ff', '/api/pul', '/api/pulls', '/api', '/api/',
    '/v1', '/v1/', '/v1/chat', '/v1/audio/speech', '/v1/audio/transcriptions/',
    '/v1/images/generations', '/v1/models/',
    '/v1/models/a/b', '/v1/models/a%2fb', '/v1/models/..', '/v1/models/.',
    '/v1/models/../../api/pull', '/v1/models/..%2f..%2fapi%2fpull',
    '/v1/models/m%20', '/v1/models/%6d', '/v1/models/m/', '/v1/models/*',
    '/v1/models/' . 'm' x 257, '/api/status', '/api/me',
    '/api/signout', '/api/blobs/sha256:' . '0' x 64, '/api/user/keys/x',
    '/api/experimental/web_search', '/_mock/behave', '/index.html', '/%2f',
    '/?/api/pull/..', '/*',
);

for my $who (qw(inference admin all)) {
    for my $method ($get, $post, $delete) {
        add("$method of tricks by $who", map {
            my $root = m{^/\?};           # this one is just "/"
            my ($code, $reason, $answer) = $root ? expected($who, '/', $method)
                                                 : (403, 'endpoint');
            $answer =~ s{/\S*}{/} if $answer;
            [ "$method $_\n" . ($method eq $get ? '' : $model), $who, $code,
              $reason, $answer ]
        } @tricks);
    }
}

# nginx finds these unfit itself
add('no paths', map { [ "POST $_\n$model", 'all', 400, '', 'Bad Request' ] }
    '/api/pull%00', '/api/%', '/api/%zz', '/../api/pull', '/api/../../pull',
    '/..?', 'http:///api/pull');

add('a query is dropped', map {
        my ($method, $path) = split;
        [ "$method $path\n" . ($method eq $post ? $model : ''), 'all', 200, '',
          "^$method " . $path =~ s/\?.*//sr . ' localhost:11434$' ] }
    'POST /api/chat?', 'POST /api/chat?model=n', 'POST /api/pull?/api/chat',
    'POST /v1/chat/completions?api-version=1&a=%00', 'GET /api/version?a?b',
    'GET /?/api/pull', 'GET /v1/models/m?x', 'GET /v1/models/m:latest?/../x');

# Host does not travel, in whatever form it comes
add('absolute form', map { [ $_, 'all', 200, '',
                             '^\w+ /\S* localhost:11434$' ] }
    "POST http://evil.example/api/chat\n$model", 'GET http://evil.example/',
    'GET http://evil.example', 'GET https://evil.example:1/api/version');

add('absolute form', map { [ $_, 'inference', 403, 'endpoint' ] }
    "POST http://a/api/pull\n$model", "POST http://a//api/pull\n$model");

# a body where none is expected would travel unseen
add('GET with a body', map { [ "GET $_\n{}", 'all', 400, 'unexpected_body' ] }
    '/', '/api/version', '/api/tags', '/v1/models', '/v1/models/m');
add('GET with a chunked body',
    map { [ "GET $_\n2\r\n{}\r\n0\r\n\r\n", 'all', 400, 'unexpected_body',
            undef,
            'Transfer-Encoding: chunked' ] }
    '/', '/api/version', '/api/tags', '/v1/models', '/v1/models/m');
add('GET with an empty body',
    [ 'GET /api/version', 'all', 200, '', '^GET /api/version localhost',
      'Content-Length: 0' ]);

spec_string(table(@blocks));

plan tests => $tests;
no_shuffle();
no_root_location();
quiet();
run_tests();
