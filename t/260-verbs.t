# Who may do what: every endpoint by every client and method, and spellings of
# a path that lead nowhere.  The table is that of the protocols, not the code.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;

my $t = Hybrid->new;
my $forge = $t->backend('forge', models => 'm');
my $vertex = $t->backend('vertex');

my %verbs = (inference => 'inference', read => 'read', admin => 'admin',
             all => 'inference read admin');
my %token = map { $_ => $t->token($_) } keys %verbs;

$t->start(http => join '', map({ "hybrid_client $_ { $token{$_}{line}
        models * google/*; verbs $verbs{$_}; egress any; }\n" }
        sort keys %verbs), <<"END");
    hybrid_backend forge { pass http://$forge->{addr}; models m n; }
    hybrid_backend vertex {
        pass http://$vertex->{addr}/v1/projects/p/locations/l/endpoints/openapi;
        api openai; egress cloud; models google/*; }
    hybrid_route * forge;
    hybrid_route google/* vertex;
END

my $json = 'application/json';
my $form = 'multipart/form-data; boundary=b';
my $model = '{"model":"m","stream":false}';
my $file = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n"
    . "--b--\r\n";
my $vertex_path = '/v1/projects/p/locations/l/publishers/google/models/g';

# path => [ verb, methods, body, type ]; "own": the gateway answers itself
my %endpoint = (
    (map { $_ => [ inference => 'POST', $model, $json ] } qw(
        /api/generate /api/chat /api/embed /api/embeddings
        /v1/chat/completions /v1/completions /v1/responses /v1/embeddings
        /v1/messages /v1/messages/count_tokens)),
    (map { $_ => [ inference => 'POST', $file, $form ] } qw(
        /v1/audio/transcriptions /v1/audio/translations)),
    (map { $_ => [ inference => 'POST', '{}', $json ] }
        (map { "/v1beta/models/g:$_" } qw(generateContent countTokens
            streamGenerateContent)),
        (map { "$vertex_path:$_" } qw(generateContent streamGenerateContent
            countTokens predict rawPredict streamRawPredict))),
    '/' => [ read => 'GET HEAD' ],
    (map { $_ => [ read => 'GET HEAD', '', '', 'own' ] }
        qw(/api/tags /api/ps /api/version /v1/models)),
    '/v1/models/m' => [ read => 'GET' ],
    '/api/show' => [ read => 'POST', $model, $json ],
    (map { $_ => [ admin => 'POST', $model, $json ] }
        qw(/api/pull /api/push /api/create)),
    '/api/copy' => [ admin => 'POST', '{"source":"m","destination":"n"}',
                     $json ],
    '/api/delete' => [ admin => 'DELETE', $model, $json ],
);

# for nobody
my @never = (qw(/api/me /api/signout /api/user/keys/k /api/status
    /api/experimental/web_search /api/experimental/web_fetch
    /api/experimental/model-recommendations /api/web_search /v1/files
    /v1/images/generations /v1/images/edits /v1/audio/speech /v1/batches
    /v1/fine_tuning/jobs /v1/assistants /v1/threads /v1beta/models
    /v1beta/files /_mock/behave /metrics /debug/pprof),
    '/api/blobs/sha256:' . '0' x 64);

my @methods = qw(GET HEAD POST PUT PATCH DELETE OPTIONS);

# -- one connection for thousands of requests

my $s;

sub ask {
    my ($who, $method, $path, $body, $type) = @_;
    my $auth = $who eq 'nobody' ? '' : $t->auth_lines($token{$who});

    $body //= '';
    $s ||= $t->open;
    $s->{buffer} = '';
    $s->send("$method $path HTTP/1.1\r\nHost: gw\r\n$auth"
        . (length $body ? "Content-Type: $type\r\n" : '')
        . ($method =~ /GET|HEAD/ && !length $body ? ''
           : 'Content-Length: ' . length($body) . "\r\n") . "\r\n$body");
    $s->read_until(qr/\r\n\r\n/);

    my ($head, $rest) = split /\r\n\r\n/, $s->{buffer}, 2;
    my ($length) = $head =~ /^Content-Length: (\d+)/mi;

    if ($method ne 'HEAD') {
        $s->read_until(defined $length ? qr/\r\n\r\n.{$length}\z/s
                       : qr/\r\n0\r\n\r\n\z/);
    }

    $s = undef if $s->{eof} || $s->{error} || $head =~ /^Connection: close/mi;

    my ($status) = $head =~ m{^HTTP/1\.1 (\d+)};
    my ($reason) = $head =~ /^X-Hybrid-Reason: (\S+)/mi;
    my ($by) = $head =~ /^X-Hybrid-Backend: (\S+)/mi;

    return (join(' ', $status // 'none', $reason // '-'), $by // '');
}

sub asked { map { $_->stats->{by_path} } $forge, $vertex }

sub expected {
    my ($who, $path, $method) = @_;
    my ($verb, $methods) = @{$endpoint{$path}};
    my $exists = grep { $_ eq $method } split ' ', $methods;

    return '401 unauthenticated' if $who eq 'nobody';
    return '403 endpoint' if $verb eq 'admin'
                             && (!$exists || $who !~ /^(?:admin|all)$/);
    return '405 method' if !$exists;
    return '403 verb' if $who ne 'all' && $who ne $verb;
    return 'answered';
}

ok(poll {
    my $r = $t->get('/api/version', as => $token{all});
    $r->{status} == 200 && !$r->{headers}{'x-hybrid-backend'};
}, 'the version is known');

$_->behave(status => 200, body => { ok => 1 }, all => 1) for $forge, $vertex;


for my $who (qw(inference read admin all nobody)) {
    subtest "endpoints, $who" => sub {
        my $before = $forge->stats->{requests} + $vertex->stats->{requests};
        my $forwarded = 0;

        for my $path (sort keys %endpoint) {
            my (undef, undef, $body, $type, $own) = @{$endpoint{$path}};

            for my $method (@methods) {
                my $want = expected($who, $path, $method);
                my $send = $want eq 'answered' || $method =~ /POST|DELETE/
                           ? $body : '';
                my ($got, $by) = ask($who, $method, $path, $send, $type);
                my $name = $path =~ /:/ ? 'vertex' : 'forge';

                if ($want eq 'answered') {
                    is "$got $by", $own ? '200 - ' : "200 - $name",
                        "$method $path";
                    $forwarded++ if !$own;

                } else {
                    is "$got $by", "$want ", "$method $path";
                }
            }
        }

        is $forge->stats->{requests} + $vertex->stats->{requests} - $before,
            $forwarded, 'no other request came to a backend';
    };
}


subtest 'never, and for nobody' => sub {
    my @before = asked();

    for my $who (qw(inference read admin all)) {
        for my $path (@never) {
            for my $method (@methods) {
                my ($got, $by) = ask($who, $method, $path);
                is "$got $by", '403 endpoint ', "$method $path, $who";
            }
        }
    }

    is_deeply [ asked() ], \@before, 'no backend was asked';
};


# each of these is another path to somebody
subtest 'spellings' => sub {
    my @tricks = map { my ($head, $tail) = m{^(/.*)/([^/]+)$};
        my ($first, $rest) = $tail =~ /^(.)(.*)$/;
        my $hex = sprintf '%%%02x', ord $first;
        ("/$_", "$head//$tail", "$head/./$tail", "$head/x/../$tail",
         "/api/chat/..$_", "/./$_" =~ s{//}{/}r, "/x/..$_", "$head%2f$tail",
         "$head%2F$tail", "$head/$hex$rest", "$head/%2e/$tail",
         "$head/x/%2e%2e/$tail", "$head/%252e%252e/$tail", "$_/", "$_/.",
         "$_//", "$_;x", "$_;", "$_%3b", "$_%20", "$_.", "$_%3f", "$_%23",
         "$_%0d%0a", "$_%ff", "$_#x", "\U$_", "/A$_",
         "$head\\$tail", "$head/$tail\\", "$head%5c$tail", "$_" . 'x' x 2000,
         "$_%2e", "$head/x/..%2f$tail", "$_/..", "$head;/$tail",
         "/" . 'x/../' x 500 . substr($_, 1), "$_%c0%80", "/%2e$_")
    } qw(/api/pull /api/delete /api/copy /api/chat /v1/chat/completions
         /v1/audio/transcriptions /v1beta/models/g:generateContent);
    my @before = asked();

    for my $who (qw(inference read admin all)) {
        for my $path (@tricks) {
            for my $method ($who eq 'all' ? qw(POST DELETE GET) : 'POST') {
                my ($got, $by) = ask($who, $method, $path, $model, $json);

                # a name of one model may well be in /v1/models/
                like "$got $by", qr/^40(?:0 -|0 bad_request|3 endpoint) $/,
                    "$who: $method " . substr $path, 0, 60;
            }
        }
    }

    is_deeply [ asked() ], \@before, 'no backend was asked';
};


subtest 'what nginx refuses itself' => sub {
    my @before = asked();

    for my $path ('/api/pull%00', "/api/pull\0", "/api/chat%00/../pull",
                  '/../api/pull', '/%2e%2e/api/pull', '/api/%zz', 'api/pull',
                  '/api/pull' . 'x' x 40_000)
    {
        my ($got) = ask('all', 'POST', $path, $model, $json);
        like $got, qr/^4(?:00|14) /, 'POST ' . substr $path, 0, 40;
    }

    is_deeply [ asked() ], \@before, 'no backend was asked';
};


# the host of the request line is no way around either
subtest 'absolute form, and the query' => sub {
    is join(' ', ask('inference', 'POST', 'http://evil.example/api/pull',
        $model, $json)), '403 endpoint ', 'pull';
    is join(' ', ask('inference', 'POST', 'http://evil.example//api/chat',
        $model, $json)), '403 endpoint ', '//';
    is join(' ', ask('inference', 'POST', 'http://evil.example/api/chat',
        $model, $json)), '200 - forge', 'chat';
    is $forge->last->{target}, '/api/chat';
    like $forge->last->{header}{host}, qr/^localhost/;

    for my $query ('?', '?/api/pull', '?x=/../../api/pull', '?%2f', '?a#b') {
        is join(' ', ask('inference', 'POST', "/api/chat$query", $model,
                         $json)), '200 - forge', $query;
        is $forge->last->{target}, '/api/chat', 'the query stays here';
    }
};

$t->done;
