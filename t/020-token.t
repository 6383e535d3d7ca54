# Service tokens: who gets in, and what the others are told.

use Test::Nginx::Socket;
use HybridBlocks;

my $id = '0123456789abcdef.access';
my ($pair, $bearer) = (headers($id), bearer($id));
my $key = "x-api-key: $id:" . secret($id) . "\n";
my $wrong = 'not-' . secret($id);
my ($id_line, $secret_line) = $pair =~ /^(.*\n)(.*\n)/;
my $long = 'x' x 64;

my $http = ollama('$TEST_NGINX_RAND_PORT_1') . '
    hybrid_backend b { pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
    hybrid_route * b;
    hybrid_client c { models *; ' . token($id) . '
        ' . token('old', 'until=2020-01-01T00:00:00Z') . '
        ' . token('epoch', 'until=1970-01-01T00:00:00Z') . '
        ' . token('zone', 'until=2020-01-01T01:00:00+01:00') . '
        ' . token('new', 'until=2199-12-31T23:59:59Z') . '
        ' . token('both', 'until=2020-01-01T00:00:00Z', 'first') . '
        ' . token('both', '', 'second') . '
        ' . token('both', 'until=2199-01-01T00:00:00Z', 'third') . '
        ' . token('colon', '', 'a:b') . '
        ' . token($long, '', 's' x 256) . '
    }
    ' . client('friend') . '
';

my @accepted = (
    [ 'the pair' => $pair ],
    [ 'the pair in lower case' => lc($id_line) . $secret_line ],
    [ 'the pair, secret first' => $secret_line . $id_line ],
    [ 'header names in lower case'
      => "cf-access-client-id: $id\ncf-access-client-secret: " . secret($id) ],
    [ 'Bearer' => $bearer ],
    [ 'bearer' => $bearer =~ s/Bearer/bearer/r ],
    [ 'the API key of Anthropic clients' => $key ],
    [ 'the API key of Gemini clients' => $key =~ s/x-api/X-Goog-Api/r ],
    [ 'a secret with a colon' => bearer('colon', 'a:b') ],
    [ 'the longest' => headers($long, 's' x 256) ],
    [ 'the longest, Bearer' => bearer($long, 's' x 256) ],
    [ 'a token that ends later' => headers('new') ],
    [ 'the second secret of an id' => headers('both', 'second') ],
    [ 'the third secret of an id' => headers('both', 'third') ],
    [ 'a cookie beside it' => $pair . 'Cookie: CF_Authorization=x' ],
    [ 'names with underscores, which nginx drops'
      => $pair . "CF_Access_Client_Id: friend" ],
);

my @refused = (
    [ 'nothing' => '', 'no credential' ],
    [ 'only the id' => $id_line, 'half a credential' ],
    [ 'only the secret' => $secret_line, 'half a credential' ],
    [ 'a wrong secret' => headers($id, $wrong), 'wrong id or secret' ],
    [ 'a wrong secret, Bearer' => bearer($id, $wrong), 'wrong id or secret' ],
    [ "the secret's beginning" => headers($id, substr secret($id), 0, -1),
      'wrong id or secret' ],
    [ "the secret in upper case" => headers($id, uc secret($id)),
      'wrong id or secret' ],
    [ "another client's secret" => headers($id, secret('friend')),
      'wrong id or secret' ],
    [ 'an unknown id' => headers('unknown', secret($id)),
      'wrong id or secret' ],
    [ 'the id in upper case' => headers(uc $id, secret($id)),
      'wrong id or secret' ],
    [ "the id's beginning" => headers(substr($id, 0, -1), secret($id)),
      'wrong id or secret' ],
    [ 'the digest as a secret' => headers($id, token($id) =~ /:(\w+)/),
      'wrong id or secret' ],
    [ 'a token that has ended' => headers('old'), 'wrong id or secret' ],
    [ 'a token that has ended, by its zone' => headers('zone'),
      'wrong id or secret' ],
    [ 'a token that ended in 1970' => headers('epoch'), 'wrong id or secret' ],
    [ 'a secret that has ended, of an id with others'
      => headers('both', 'first'),
      'wrong id or secret' ],
    [ 'an empty id' => "CF-Access-Client-Id:\n$secret_line",
      'malformed credential' ],
    [ 'an empty secret' => "${id_line}CF-Access-Client-Secret:\n",
      'malformed credential' ],
    [ 'an id too long' => headers("${long}x", 's' x 256),
      'malformed credential' ],
    [ 'a secret too long' => headers($long, 's' x 257),
      'malformed credential' ],
    [ 'a huge secret' => headers($id, 's' x 3000), 'malformed credential' ],
    [ 'the id twice' => $id_line . $pair, 'duplicate credentials' ],
    [ 'another id first' => "CF-Access-Client-Id: friend\n" . $pair,
      'duplicate credentials' ],
    [ 'another id last' => $pair . "cf-access-client-id: friend\n",
      'duplicate credentials' ],
    [ 'the secret twice' => $pair . $secret_line, 'duplicate credentials' ],
    [ 'another secret last' => $pair . "CF-Access-Client-Secret: $wrong\n",
      'duplicate credentials' ],
    [ 'an empty id more' => "CF-Access-Client-Id:\n" . $pair,
      'duplicate credentials' ],
    [ 'the pair and Bearer' => $pair . $bearer, 'two kinds of credentials' ],
    [ 'half the pair and Bearer' => $id_line . $bearer,
      'two kinds of credentials' ],
    [ 'the pair and Basic' => "${pair}Authorization: Basic dTpw\n",
      'two kinds of credentials' ],
    (map { [ "Authorization: $_" => "Authorization: $_\n",
             'Authorization is not "Bearer"' ] }
        'Basic dTpw', 'Bearer', 'Bearer ', "$id:" . secret($id),
        "Bearer\t$id:" . secret($id), 'Bearer' . "$id:" . secret($id)),
    [ 'Bearer with the id only' => "Authorization: Bearer $id",
      'the key is not "<id>:<secret>"' ],
    [ 'x-api-key with the id only' => "x-api-key: $id",
      'the key is not "<id>:<secret>"' ],
    [ 'x-api-key with Bearer' => "x-api-key: Bearer $id:" . secret($id),
      'wrong id or secret' ],
    [ 'x-api-key twice' => $key . $key, 'duplicate credentials' ],
    [ 'two headers for a key' => $key . ($key =~ s/x-api/x-goog-api/r),
      'duplicate credentials' ],
    [ 'a key and the pair' => $key . $pair, 'two kinds of credentials' ],
    [ 'a key and Bearer' => $key . $bearer, 'two kinds of credentials' ],
    [ 'two spaces' => $bearer =~ s/ (?=\d)/  /r, 'wrong id or secret' ],
    [ 'a space in it' => $bearer =~ s/the/ the/r, 'wrong id or secret' ],
    [ 'Bearer, no id' => 'Authorization: Bearer :' . secret($id),
      'malformed credential' ],
    [ 'Bearer, no secret' => "Authorization: Bearer $id:",
      'malformed credential' ],
);

my $unauthorized = qq({"error":"authentication is required"}\n);

my $n = 0;

spec_string(table(
    (map { [ 'TEST ' . ++$n . ": $_->[0] gets in", http_config => $http,
             config => gateway(), request => 'GET /api/version',
             more_headers => $_->[1],
             response_body => 'GET /api/version localhost:11434',
             no_error_log => "not authenticated\n[alert]" ] } @accepted),

    (map { [ 'TEST ' . ++$n . ": $_->[0] is refused", http_config => $http,
             config => gateway(), request => 'GET /api/version',
             more_headers => $_->[1], error_code => 401,
             response_body => $unauthorized,
             response_headers => qq{WWW-Authenticate: Bearer realm="hybrid"\n}
                 . "X-Hybrid-Reason: unauthenticated\nX-Hybrid-Backend:\n"
                 . 'Content-Type: application/json',
             error_log => "client is not authenticated: $_->[2]",
             no_error_log => "[alert]\n" . secret($id) ] } @refused),

    # this nginx refuses it before it asks us, newer ones may not
    (map { [ 'TEST ' . ++$n . ': Authorization twice', http_config => $http,
             config => gateway(), request => 'GET /api/version',
             more_headers => $_, error_code_like => '^40[01]$',
             response_body_unlike => 'GET' ] }
        $bearer x 2, "${bearer}authorization: Basic dTpw",
        "authorization: Basic dTpw\n$bearer"),

    # nobody waits for the body: it never comes, or is the next request's
    [ 'TEST ' . ++$n . ': no 100 Continue for the refused',
      http_config => $http, config => gateway('lingering_timeout 50ms;'),
      'raw_request eval' => raw("POST /api/chat HTTP/1.1\r\nHost: a\r\n"
          . "Expect: 100-continue\r\nContent-Length: 100\r\n\r\n"),
      error_code => 401, response_body => $unauthorized ],

    [ 'TEST ' . ++$n . ': 100 Continue for the others',
      http_config => $http, config => gateway(),
      'raw_request eval' => raw("POST /api/chat HTTP/1.1\r\nHost: a\r\n"
          . crlf($pair) . "Expect: 100-continue\r\nContent-Length: 13\r\n"
          . "Connection: close\r\n\r\n" . '{"model":"m"}'),
      error_code => 100 ],

    [ 'TEST ' . ++$n . ': a part of the body', http_config => $http,
      config => gateway('lingering_timeout 50ms;'),
      'raw_request eval' => raw("POST /api/chat HTTP/1.1\r\nHost: a\r\n"
          . "Content-Length: 100000\r\n\r\n" . '{"model":'),
      error_code => 401, response_body => $unauthorized ],

    [ 'TEST ' . ++$n . ': a part of a chunked body', http_config => $http,
      config => gateway('lingering_timeout 50ms;'),
      'raw_request eval' => raw("POST /api/chat HTTP/1.1\r\nHost: a\r\n"
          . "Transfer-Encoding: chunked\r\n\r\nffff\r\n{"),
      error_code => 401, response_body => $unauthorized ],

    [ 'TEST ' . ++$n . ': the body of a refused request is no request',
      http_config => $http, config => gateway(),
      'pipelined_requests eval' => "[ map { \$_ % 2 ? 'GET /api/version'
          : qq{POST /api/chat\nGET / HTTP/1.1\r\nHost: a\r\n" . crlf($bearer)
          . "\r\n} } 0 .. 9 ]",
      'more_headers eval' => "[ map { \$_ % 2 ? q{$pair} : '' } 0 .. 9 ]",
      'error_code eval' => '[ map { $_ % 2 ? 200 : 401 } 0 .. 9 ]',
      'response_body eval' => "[ map { \$_ % 2 ? qq{GET /api/version "
          . "localhost:11434\n} : q{$unauthorized} } 0 .. 9 ]" ],

    [ 'TEST ' . ++$n . ': an outer hybrid_access, and off',
      http_config => $http,
      config => "hybrid_access token;
          location /open { hybrid_access off; return 200 open; }
          location /deep { location /deep/er { return 200 deep; } }
          location / { " . proxy_conf() . '}',
      'request eval' => '[ map "GET $_", "/open", "/deep/er", "/api/version" ]',
      'error_code eval' => '[ 200, 200, 401 ]',
      'response_body_like eval' => '[ "open", "deep", "required" ]' ],
));

# what "eval" makes the same bytes of
sub raw { 'pack("H*", "' . unpack('H*', $_[0]) . '")' }
sub crlf { $_[0] =~ s/\n/\r\n/gr }

plan tests => 4 * @accepted + 9 * @refused + 3 * 2 + 3 * 2 + 1 + 20 + 6;

# nginx itself writes all headers to a debug log
log_level('info');
no_shuffle();
no_long_string();
no_root_location();
quiet();
run_tests();
