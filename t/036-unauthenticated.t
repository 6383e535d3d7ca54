# Who is not authenticated gets the same answer for every reason, to every
# kind of request, before any of its body is read.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridJwt;
use Test::More;

my $t = Hybrid->new;
my $forge = $t->backend('forge', models => 'm');
my $alice = $t->token('alice');
my $key = HybridJwt->key('ES256', kid => 'k');

$t->file('set.json', jwks($key));

my $gateway = 'include %PROXY%;';

$t->start(http => <<"END");
    hybrid_issuer i { issuer https://i.test; audience a;
                      jwks $t->{dir}/set.json; algorithms ES256; }
    hybrid_client alice { $alice->{line} jwt i sub=alice; models m; }
    hybrid_backend forge { pass http://$forge->{addr}; models m; }
    hybrid_route * forge;
    lingering_timeout 100ms;

    server {
        listen 127.0.0.1:%PORT1%;
        location / { hybrid_access token; $gateway }
        location /read { hybrid_access token; hybrid_status json; }
    }
    server {
        listen 127.0.0.1:%PORT2% http2;
        location / { hybrid_access token; $gateway }
    }
    server {
        listen 127.0.0.1:%PORT3%;
        location / { hybrid_access token jwt; $gateway }
    }
END

# a JWT for this audience
sub jwt {
    return $key->mint(claims(iss => 'https://i.test', aud => $_[0]));
}

my @reasons = (
    [ 'nothing' => '' ],
    [ 'an unknown id' => "X-Api-Key: nobody:$alice->{secret}\r\n" ],
    [ 'a wrong secret' => "X-Api-Key: $alice->{id}:nonsense\r\n" ],
    [ 'the first byte' => "X-Api-Key: $alice->{id}:"
                          . ($alice->{secret} =~ s/^./-/r) . "\r\n" ],
    [ 'the last byte' => "X-Api-Key: $alice->{id}:"
                         . ($alice->{secret} =~ s/.$/-/r) . "\r\n" ],
    [ 'Basic' => "Authorization: Basic dTpw\r\n" ],
    [ 'no pair' => "Authorization: Bearer x\r\n" ],
    [ 'half a pair' => "CF-Access-Client-Id: $alice->{id}\r\n" ],
    [ 'two kinds' => "Authorization: $alice->{bearer}\r\nX-Api-Key: a:b\r\n" ],
    [ 'twice' => "X-Api-Key: $alice->{id}:$alice->{secret}\r\n" x 2 ],
    [ 'a JWT' => 'Authorization: Bearer ' . jwt('a') . "\r\n" ],
);

# all of an answer but for its date
sub answer {
    my ($line, $headers, %o) = @_;
    my $text = $t->raw("$line HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                       . "$headers\r\n" . ($o{body} // ''), %o);
    return $text =~ s/^Date: .*\r\n//mr;
}


for my $case ([ 'GET /api/tags', 'ollama', '{"error":"%s"}' ],
              [ 'POST /api/chat', 'ollama', '{"error":"%s"}' ],
              [ 'DELETE /api/delete', 'ollama', '{"error":"%s"}' ],
              [ 'GET /nothing', 'ollama', '{"error":"%s"}' ],
              [ 'GET /read', 'the status page', '{"error":"%s"}' ],
              [ 'GET /v1/models', 'openai', '{"error":{"message":"%s",'
                . '"type":"authentication_error","param":null,'
                . '"code":"unauthenticated"}}' ],
              [ 'POST /v1/nothing', 'openai', '{"error":{"message":"%s",'
                . '"type":"authentication_error","param":null,'
                . '"code":"unauthenticated"}}' ],
              [ 'POST /v1/messages', 'anthropic', '{"type":"error","error":'
                . '{"type":"authentication_error","message":"%s"}}' ])
{
    my ($line, $name, $body) = @$case;

    subtest "$line, $name" => sub {
        my $first = answer($line, '');

        like $first, qr/^HTTP\/1\.1 401 Unauthorized\r\n/, 'its status';
        like $first, qr/^X-Hybrid-Reason: unauthenticated\r$/m, 'its reason';
        like $first, qr/^WWW-Authenticate: Bearer realm="hybrid"\r$/m,
            'what to show';
        like $first, qr/^Content-Type: application\/json\r$/m, 'its type';
        is +($first =~ /\r\n\r\n(.*)/s)[0],
            sprintf($body, 'authentication is required') . "\n", 'its words';

        my @other = map { $_->[0] }
                    grep { answer($line, $_->[1]) ne $first } @reasons;
        is "@other", '', 'the same for all reasons';

        my $head = answer($line =~ s/^\w+/HEAD/r, '');
        is $head, $first =~ s/\r\n\r\n\K.*//sr, 'HEAD: the same, but no body';
    };
}


subtest 'a JWT' => sub {
    my %o = (port => $t->port(3));
    my $challenge = sub {
        answer('GET /api/version', $_[0], %o)
            =~ /^HTTP\S+ (\d+).*?\nWWW-Authenticate: (.*?)\r/s
            or return 'none';
        return "$1 $2";
    };

    is $challenge->(''), '401 Bearer realm="hybrid"', 'nothing';
    is $challenge->("X-Api-Key: $alice->{id}:x\r\n"),
        '401 Bearer realm="hybrid"', 'a token';

    for my $bad ('a.b.c', 'e30.e30.', jwt('b')) {
        is $challenge->("Authorization: Bearer $bad\r\n"),
            '401 Bearer realm="hybrid", error="invalid_token"', 'a JWT';
    }

    like answer('GET /api/version', 'Authorization: Bearer ' . jwt('a')
                . "\r\n", %o), qr/^HTTP\S+ 200/, 'a good one';
};


subtest 'before the body' => sub {
    $forge->clear;

    for my $framing ('Content-Length: 1000000', 'Transfer-Encoding: chunked') {
        my $s = $t->open;
        $s->send("POST /api/chat HTTP/1.1\r\nHost: a\r\n$framing\r\n\r\n");
        like $s->read_until(qr/\}\n/), qr/^HTTP\/1\.1 401 /,
            "nobody waits for it: $framing";
        $s->close;

        $s = $t->open;
        $s->send("POST /api/chat HTTP/1.1\r\nHost: a\r\n"
                 . "Expect: 100-continue\r\n$framing\r\n\r\n");
        my $text = $s->read_until;
        like $text, qr/^HTTP\/1\.1 401 /, 'it is not asked for';
        is scalar(() = $text =~ /^HTTP/mg), 1, 'this is the only answer';
        $s->close;
    }

    # the next request on the connection is read where the body has ended
    my $next = "GET /api/version HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
               . $t->auth_lines($alice) . "\r\n";
    my $trap = "GET /api/tags HTTP/1.1\r\nHost: a\r\n\r\n";
    my $text = $t->raw([ "POST /api/chat HTTP/1.1\r\nHost: a\r\n"
        . 'Content-Length: ' . length($trap) . "\r\n\r\n$trap$next" ]);
    is join(' ', $text =~ /^HTTP\S+ (\d+)/mg), '401 200', 'not in it';

    is scalar(grep { $_->{target} ne '/api/version' } $forge->requests), 0,
        'nothing came to the backend';
};


subtest 'HTTP/2' => sub {
    my $url = 'http://127.0.0.1:' . $t->port(2) . '/api/chat';
    my $curl = sub {
        return $t->run('curl', '-sS', '--noproxy', '*', '-i', '-m', 20,
                       '--http2-prior-knowledge', @_)
               =~ s/^date: .*\r\n//mr;
    };
    my $first = $curl->($url);

    like $first, qr/^HTTP\/2 401 /, 'its status';
    like $first, qr/^www-authenticate: Bearer realm="hybrid"\r$/m, 'its header';
    like $first, qr/^x-hybrid-reason: unauthenticated\r$/m, 'its reason';
    like $first, qr/\{"error":"authentication is required"\}\n\z/, 'its words';

    is $curl->('-H', "X-Api-Key: $alice->{id}:nonsense", $url), $first,
        'a wrong secret';

    # curl takes the RST_STREAM after an early answer for a failure
    like $t->run('nghttp', '-v', '-d', $t->file('body', 'x' x 100_000), '-H',
                 'Expect: 100-continue', $url),
        qr/:status: 401.*authentication is required/s, 'a body';
    is $curl->('-I', $url), $first =~ s/\r\n\r\n\K.*//sr, 'HEAD';
};

$t->done;
