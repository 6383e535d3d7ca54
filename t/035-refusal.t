# Refusals: status, reason and words, in the dialect of the request.

use Test::Nginx::Socket;
use HybridBlocks;
use IO::Socket::INET;
use IO::Uncompress::Gunzip ();

# Takes connections and says nothing: they wait in the queue of the kernel.
my $silent = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1')
    or die "listen: $!";

my $http = ollama('$TEST_NGINX_RAND_PORT_1') . '
    upstream down { server 127.0.0.1:1 down; }
    hybrid_backend b { pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1;
                       probe off; }
    hybrid_backend off { pass http://127.0.0.1:1; probe off; }
    hybrid_backend silent { pass http://127.0.0.1:' . $silent->sockport . ';
                            probe off; }
    hybrid_backend down { pass http://down; probe off; }
    hybrid_backend cloud { pass http://127.0.0.1:1; probe off; egress cloud; }
    hybrid_route m b;
    hybrid_route off off;
    hybrid_route silent silent;
    hybrid_route down down;
    hybrid_route away cloud;
' . client('c', 'models m off silent down away nowhere;')
  . client('once', 'models m; rate 1r/d;');

my %path = (ollama => '/api/chat', openai => '/v1/chat/completions',
            anthropic => '/v1/messages');

my @refusals = (

    # reason, status, what OpenAI and Anthropic call it, message, and the
    # request: who, body, more headers

    [ 'model_required', 400, 'invalid_request_error', 'invalid_request_error',
      'model is required', 'c', '{}' ],
    [ 'invalid_model', 400, 'invalid_request_error', 'invalid_request_error',
      "the model's name is not valid", 'c', '{"model":"m m"}' ],
    [ 'invalid_body', 400, 'invalid_request_error', 'invalid_request_error',
      qr/[a-z][^"\\]*/, 'c', '{"model"' ],
    [ 'unauthenticated', 401, 'authentication_error', 'authentication_error',
      'authentication is required', 'nobody', '{"model":"m"}' ],
    [ 'model_denied', 403, 'permission_error', 'permission_error',
      'this client may not use this model', 'c', '{"model":"denied"}' ],
    [ 'keep_alive', 403, 'permission_error', 'permission_error',
      'this client may not unload or pin a model with keep_alive', 'c',
      '{"model":"m","keep_alive":0}' ],
    [ 'egress', 403, 'permission_error', 'permission_error',
      "this client's requests may not be sent to where this model is", 'c',
      '{"model":"away"}' ],
    [ 'model_not_found', 404, 'not_found_error', 'not_found_error',
      "model 'nowhere' not found", 'c', '{"model":"Nowhere:latest"}' ],
    [ 'body_too_large', 413, 'invalid_request_error', 'request_too_large',
      'the request body is too large', 'c', '{"model":"' . 'm' x 2000 . '"}' ],
    [ 'body_too_large', 413, 'invalid_request_error', 'request_too_large',
      'the request body is too large', 'c',
      "800\r\n" . ' ' x 2048 . "\r\n0\r\n\r\n", 'Transfer-Encoding: chunked' ],
    [ 'content_encoding', 415, 'invalid_request_error', 'invalid_request_error',
      'Content-Encoding is not accepted', 'c', '{"model":"m"}',
      'Content-Encoding: zstd' ],
    [ 'content_encoding', 415, 'invalid_request_error', 'invalid_request_error',
      'Content-Encoding is not accepted', 'c', '{"model":"m"}',
      "Content-Encoding: identity\nContent-Encoding: identity" ],
    [ 'backend_error', 502, 'api_error', 'api_error',
      'the backend gave no answer', 'c', '{"model":"off"}' ],
    [ 'unavailable', 503, 'api_error', 'overloaded_error',
      'no backend can serve this at the moment', 'c', '{"model":"down"}' ],
    [ 'backend_timeout', 504, 'api_error', 'api_error',
      'the backend did not answer in time', 'c', '{"model":"silent"}' ],
);

# the body of each dialect
sub words {
    my ($dialect, $reason, $openai, $anthropic, $message) = @_;

    $message = ref $message ? $message : quotemeta $message;

    return qr/^\{"error":"$message"\}\n\z/ if $dialect eq 'ollama';

    return qr/^\{"type":"error","error":\{"type":"$anthropic",
               "message":"$message"\}\}\n\z/x
        if $dialect eq 'anthropic';

    return qr/^\{"error":\{"message":"$message","type":"$openai",
               "param":null,"code":"$reason"\}\}\n\z/x;
}

my $location = gateway('', client_max_body_size => '1k',
                       proxy_read_timeout => '100ms');
my (@blocks, $tests);
our @data;

sub add {
    my ($name, %row) = @_;

    push @data, \%row;
    push @blocks, [ 'TEST ' . @data . ": $name", http_config => $http,
        map { ref $row{$_} ? ("$_ eval" => "\$::data[$#data]{'$_'}")
                           : ($_ => $row{$_}) } sort keys %row ];
}

for my $dialect (sort keys %path) {
    for my $row (@refusals) {
        my ($reason, $status, $openai, $anthropic, $message, $who, $body,
            $more) = @$row;
        my @tried = $status =~ /50[24]/ ? "X-Hybrid-Backend: "
                    . ($body =~ /"(off|silent)"/)[0] : 'X-Hybrid-Backend: ';

        add("$status $reason, $dialect", config => $location,
            request => \"POST $path{$dialect}\n$body",
            more_headers => headers($who) . ($more // ''),
            error_code => $status,
            response_headers => join("\n", "X-Hybrid-Reason: $reason",
                'Content-Type: application/json', @tried,
                'Retry-After: ' . ($status == 503 ? 1 : ''),
                'WWW-Authenticate: '
                . ($status == 401 ? 'Bearer realm="hybrid"' : '')),
            response_body => words($dialect, $reason, $openai, $anthropic,
                                   $message),
            no_error_log => '[alert]');

        $data[-1]{request} = ${$data[-1]{request}};
        $tests += 8;
    }

    # the second of the day
    add("429 rate_limited, $dialect", config => $location,
        request => [ ("POST $path{$dialect}\n" . '{"model":"m"}') x 2 ],
        more_headers => headers('once'), error_code => [ 200, 429 ],
        response_headers_like => [ "X-Hybrid-Reason:\nX-Hybrid-Backend: b",
            "X-Hybrid-Reason: rate_limited\nRetry-After: 86\\d\\d\\d\n"
            . "X-Hybrid-Backend:\nContent-Type: application/json" ],
        response_body => [ qr/^POST \Q$path{$dialect}\E /,
            words($dialect, 'rate_limited', 'rate_limit_error',
                  'rate_limit_error', 'too many requests, try again later') ]);
    $tests += 2 + 2 + 2 + 4;
}

# HEAD: no body

add('HEAD', config => $location,
    request => [ 'HEAD /api/tags', 'HEAD /nothing' ],
    more_headers => [ '', headers('c') ], error_code => [ 401, 403 ],
    response_headers => [
        "X-Hybrid-Reason: unauthenticated\nContent-Length: 39",
        "X-Hybrid-Reason: endpoint\nContent-Length: 43" ],
    response_body => [ '', '' ]);
$tests += 8;

# nginx's own, before there is a location

add('414', config => "hybrid_access token; $location",
    request => 'GET /api/version?' . 'x' x 40000, error_code => 414,
    more_headers => headers('c'),
    response_headers => "X-Hybrid-Reason: bad_request\n"
        . 'Content-Type: application/json',
    response_body => qq({"error":"bad request"}\n));
$tests += 4;

# the connection goes on after all that nginx keeps it for

add('keepalive', config => $location,
    pipelined_requests => [ map { "POST /api/chat\n$_" }
        '{"model":"denied"}', '{"model":"nowhere"}', '{"model":"off"}',
        '{"model":"down"}', '{"model":"m"}' ],
    more_headers => headers('c'), error_code => [ 403, 404, 502, 503, 200 ],
    response_body_like => [ qw(may not gave moment POST) ]);
$tests += 10;

# error_page is the server's own word, and no way in

add('error_page', config => "error_page 401 /login; error_page 403 =200 /sorry;
        error_page 404 \@lost; error_page 503 = /api/version;
        location = /login { return 401 'log in'; }
        location = /sorry { return 200 'sorry'; }
        location \@lost { return 404 'lost'; }
        $location",
    request => [ "GET /api/version", map { "POST /api/chat\n$_" }
        '{"model":"denied"}', '{"model":"nowhere"}', '{"model":"down"}' ],
    more_headers => [ '', (headers('c')) x 3 ],
    error_code => [ 401, 200, 404, 503 ],
    response_body_like => [ '^log in$', '^sorry$', '^lost$',
        'no backend can' ]);
$tests += 8;

add('error_page is no way to a backend', config => "
        error_page 401 403 \@fallback; error_page 404 /api/version;
        location \@fallback { hybrid_access token; " . proxy_conf() . "}
        $location",
    request => [ "GET /api/version", map { "POST /api/chat\n$_" }
        '{"model":"denied"}', '{"model":"nowhere"}' ],
    more_headers => [ '', (headers('c')) x 2 ],
    error_code => [ 401, 403, 404 ],
    response_body_unlike => [ ('localhost') x 3 ]);
$tests += 6;

# satisfy any: another way in than ours, with ours still working

my $status = 'location = /status { satisfy any; hybrid_access token;
                                   hybrid_status json; %s }';

for my $way ([ 'allow', 'allow all;', '', 200 ],
             [ 'deny', 'deny all;', '', 401 ],
             [ 'auth_basic',
               'auth_basic x; auth_basic_user_file ../html/users;',
               'Authorization: Basic dTpw', 200 ],
             [ 'a wrong auth_basic',
               'auth_basic x; auth_basic_user_file ../html/users;',
               'Authorization: Basic dTpx', 401 ])
{
    my ($name, $text, $credential, $code) = @$way;

    add("satisfy any, $name", config => sprintf($status, $text),
        user_files => ">>> users\nu:{PLAIN}p",
        request => [ ('GET /status') x 3 ],
        more_headers => [ $credential, headers('c'), headers('c', 'x') ],
        error_code => [ $code, 200, $name eq 'allow' ? 200 : 401 ],
        response_body_like => [ $code == 200 ? 'clients' : 'is required',
            'clients', $name eq 'allow' ? 'clients' : 'is required' ]);
    $tests += 6;
}

add('satisfy any does not bring a stranger to a backend',
    config => gateway('satisfy any; allow all;'),
    request => [ ('GET /api/version') x 2,
        "POST /api/chat\n{\"model\":\"denied\"}" ],
    more_headers => [ headers('c'), '', headers('c') ],
    error_code => [ 200, 401, 403 ],
    response_body_like => [ '^GET', 'is required', 'may not' ]);
$tests += 6;

# what a backend says about itself

add("a backend's own headers", config => $location, http_config => '
    server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        add_header X-Hybrid-Reason evil always;
        add_header X-Hybrid-Backend evil always;
        add_header X-Hybrid-Fallback evil always;
        add_header X-Hybrid-Limits evil always;
        location / { return 200 ok; }
        location /api/chat { return 400 bad; } }
    hybrid_backend b { pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1;
                       probe off; }
    hybrid_route m b; ' . client('c'),
    request => [ 'GET /api/version', "POST /api/chat\n{\"model\":\"m\"}" ],
    more_headers => headers('c'), error_code => [ 200, 400 ],
    response_headers => [ ("X-Hybrid-Backend: b\nX-Hybrid-Reason:\n"
        . "X-Hybrid-Fallback:\nX-Hybrid-Limits:") x 2 ],
    response_body => [ 'ok', 'bad' ]);
$tests += 12;

# other filters see the error that is sent

add('gzip', config => "gzip on; gzip_types application/json; $location",
    request => "POST /api/chat\n{\"model\":\"denied\"}",
    more_headers => headers('c') . 'Accept-Encoding: gzip', error_code => 403,
    response_headers => "Content-Encoding: gzip\n"
        . "X-Hybrid-Reason: model_denied\n"
        . 'Content-Type: application/json',
    response_body_filters => \&gunzip,
    response_body => qq({"error":"this client may not use this model"}\n));
$tests += 5;

spec_string(table(@blocks));

sub gunzip {
    my ($zipped) = @_;
    IO::Uncompress::Gunzip::gunzip(\$zipped, \my $text);
    return $text;
}

plan tests => $tests;
no_shuffle();
no_long_string();
no_root_location();
run_tests();
