# What a backend sees of a request, what a client sees of an answer, and what
# the logs see of both.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;

my $t = Hybrid->new;
my %b = map { $_ => $t->backend($_, models => 'm1,local,all,back,cloud,named')
            } qw(forge anvil vertex azure);
my $slow = $t->backend('slow', models => 'slow', token_ms => 600000);
my %client = map { $_ => $t->token($_) } qw(alice carol);
my ($alice, $carol) = @client{qw(alice carol)};
$t->{as} = $alice;

my %secret = map { $_ => Hybrid::sha256("$_ $$ " . rand) }
             qw(bearer key id pair);
my %file = map { $_ => $t->file("secret.$_", "$secret{$_}\n") } keys %secret;

my $log = join ',', map { qq("$_":"\$$_") }
    map({ "hybrid_$_" } qw(client auth model verb backend backends reason ttft
                           queue_time host authorization)),
    map({ "http_$_" } qw(authorization user_agent cf_access_client_id api_key
                         cf_access_client_secret cookie x_tenant host)),
    qw(request request_uri uri args sent_http_x_shown);

$t->start(http => <<"END");
    hybrid_client alice { $alice->{line} models *; }
    hybrid_client carol { $carol->{line} models *; egress any; }

    upstream forge { server $b{forge}{addr} max_fails=0; keepalive 4; }

    hybrid_backend forge  { pass http://forge; }
    hybrid_backend anvil  { pass http://$b{anvil}{addr}; host anvil.test;
                            credential access $file{id} $file{pair}; }
    hybrid_backend vertex { pass http://$b{vertex}{addr}; api openai;
                            egress cloud; credential bearer $file{bearer}; }
    hybrid_backend azure  { pass http://$b{azure}{addr}; host azure.test:8443;
                            egress cloud;
                            credential header Api-Key $file{key}; }
    hybrid_backend named  { pass http://$b{anvil}{addr};
                            credential header X-Request-Id $file{key}; }
    hybrid_backend slow   { pass http://$slow->{addr}; }

    hybrid_route local  forge;
    hybrid_route all    vertex azure anvil forge;
    hybrid_route back   forge anvil azure vertex;
    hybrid_route cloud  azure;
    hybrid_route named  named;
    hybrid_route slow   slow;
    hybrid_route *      anvil;

    map \$hybrid_backend \$shown { "" nobody; default "by \$hybrid_backend"; }
    map \$hybrid_client  \$known { "" no; default yes; }
    map \$hybrid_backend \$late  { volatile; "" ""; azure "";
                                   default \$http_cf_access_client_secret; }
    log_format all escape=json '{$log}';
    access_log access.log all;

    server {
        listen 127.0.0.1:%PORT%;
        listen 127.0.0.1:%PORT3% http2;

        add_header X-Shown "\$shown \$known" always;
        error_page 403 /refused;
        error_page 502 = \@again;

        location / { hybrid_access token; include %PROXY%; }
        location \@again { hybrid_access token; include %PROXY%; }
        location = /refused {
            return 403 "\$hybrid_client \$hybrid_model \$hybrid_reason";
        }

        # what an administrator may add
        location = /api/embed {
            hybrid_access token;
            include %PROXY%;
            proxy_set_header Authorization \$hybrid_authorization;
            proxy_set_header X-Host \$hybrid_host;
            proxy_set_header X-Tenant \$http_x_tenant;
            proxy_set_header X-Late \$late;
        }

        # not ours: no backend of "hybrid" is asked
        location = /api/embeddings {
            hybrid_access token;
            proxy_pass http://$b{forge}{addr};
        }
    }

    server {
        listen 127.0.0.1:%PORT2%;
        underscores_in_headers on;
        ignore_invalid_headers off;
        location / { hybrid_access token; include %PROXY%; }
    }
END

sub clear { $_->clear for values %b }
sub asked { my @r = map { $_->requests } values %b; return scalar @r }
sub body { return qq({"model":"$_[0]","stream":false}) }

# these lines of a request's head, and the others that it needs
sub send_raw {
    my ($lines, %o) = @_;
    my $body = body($o{model} || 'local');
    my @head = ($o{first} || 'POST /api/generate HTTP/1.1',
                $o{host} // 'Host: gateway', 'Connection: close',
                'Content-Length: ' . length $body, @$lines,
                $o{auth} // "Authorization: $t->{as}{bearer}");
    return $t->raw(join("\r\n", (grep { length } @head), '', $body),
                   port => $t->port($o{port}));
}

# names of all headers, each as often as it came
sub names { return join ' ', sort map { lc $_->[0] } @{$_[0]{headers}} }

# the last line of the access log with this user agent
sub line {
    my ($agent) = @_;
    my $line = qr/^(.*"http_user_agent":"$agent".*)$/m;
    my @lines = ($t->wait_log('access.log', $line) // '') =~ /$line/g;
    return eval { Hybrid::decode($lines[-1]) } || {};
}

my $usual = 'content-length host';


subtest 'a usual request' => sub {
    is $t->post('/api/chat?key=x', { model => 'local' },
                headers => { Accept => '*/*' })->{status}, 200;
    my $seen = $b{forge}->last;
    is_deeply $seen->{header}, { accept => '*/*', 'content-length' => 17,
        'content-type' => 'application/json', host => 'localhost:11434',
        'user-agent' => 'hybrid-test', 'x-hybrid-client' => 'alice' };
    is scalar @{$seen->{headers}}, 6, 'once each';
    is "$seen->{version} $seen->{target}", 'HTTP/1.1 /api/chat', 'no query';

    $t->get('/?a=b', as => undef, headers => $alice->{pair});
    is names($b{forge}->last), 'host user-agent x-hybrid-client', 'GET';
    is $b{forge}->last->{target}, '/';

    like $t->raw("HEAD / HTTP/1.0\r\n" . $t->auth_lines . "\r\n"),
         qr{^HTTP/1\.1 200 };
    is names($b{forge}->last), 'host x-hybrid-client', 'HTTP/1.0';
    clear();
};


subtest 'what may travel on' => sub {
    my %allowed = (Accept => 'text/event-stream, */*;q=0.1',
        'accept-LANGUAGE' => 'de', 'Anthropic-Beta' => 'a,b',
        'anthropic-version' => '2023-06-01', 'Content-Type' => 'text/json',
        'Idempotency-Key' => 'i', 'OpenAI-Beta' => 'x=v2',
        traceparent => '00-0af7651916cd43dd8448eb211c80319c-b7ad6b71-01',
        TraceState => 'a=1', 'User-Agent' => 'a "b" (c)',
        'X-Request-ID' => 'r-1');
    local $t->{as} = $carol;

    for my $case ([ local => 'forge' ], [ all => 'vertex' ]) {
        my ($model, $who) = @$case;
        send_raw([ map { "$_: $allowed{$_}" } keys %allowed ],
                 model => $model, first => 'POST /v1/completions HTTP/1.1');
        my $seen = $b{$who}->last;

        # the body was read as JSON, and so it is called
        is_deeply { map { $_ => $seen->{header}{lc $_} } keys %allowed },
                  { %allowed, 'Content-Type' => 'application/json' },
                  "to $who";
        is scalar @{$seen->{headers}}, keys(%allowed) + 3, 'and no more';
    }

    send_raw([ 'X-Request-Id: evil' ], model => 'named');
    is $b{anvil}->last->{header}{'x-request-id'}, $secret{key},
       'the name of a credential: ours alone';
    clear();
};


subtest 'what never does' => sub {
    my @lines = (map({ "$_: evil" } qw(Cookie Cf-Access-Jwt-Assertion
        CF-Connecting-IP CF-Ray CF-Visitor CF-Authorization X-Forwarded-For
        X-Forwarded-Host X-Forwarded-Proto X-Forwarded-User X-Forwarded-Port
        X-Real-IP True-Client-IP Via Origin Referer Keep-Alive Forwarded
        Proxy-Authorization Proxy-Authenticate Proxy-Connection Api-Key
        X-Goog-User-Project X-Auth-Token
        X-Hybrid-Client x-hybrid-client X-HYBRID-Client X-Hybrid-Backend
        X-Hybrid-Anything X-Accel-Redirect X-Original-URL X-Rewrite-URL
        X-HTTP-Method-Override X-Amz-Security-Token Max-Forwards Priority
        Range If-None-Match If-Modified-Since If-Match Date Trailer
        Sec-Fetch-Site HTTP2-Settings X-Nominated Cf-Access-Token
        Cf-Access-Authenticated-User-Email Cf-Connecting-IPv6 Cf-IPCountry
        Cf-Worker Cdn-Loop SSL-Client-Cert SSL-Client-Verify SSL-Client-S-DN
        X-SSL-Client-Verify X-SSL-Client-Cert X-Client-Cert Client-Cert
        X-Forwarded-Client-Cert X-Amzn-Mtls-Clientcert), qw(X_Api_Key
        X_Goog_Api_Key Api_Key SSL_CLIENT_VERIFY SSL_CLIENT_S_DN
        CF_Access_Jwt_Assertion CF_Authorization X_Hybrid_Client
        x_hybrid-client X-Hybrid_Client X.Hybrid.Client X-Hybrid-Client.
        CF_Access_Client_Id CF_ACCESS_CLIENT_SECRET X_Forwarded_For User_Agent
        Content_Type X_Request_Id Content_Length Host_)),
        'Cookie: CF_Authorization=evil', 'cookie: CF_AppSession=evil',
        'TE: trailers', 'Upgrade: h2c', 'Accept-Encoding: gzip',
        'Content-Encoding: identity', 'Connection: X-Nominated, Host, '
        . 'X-Hybrid-Client, Content-Length, Authorization, User-Agent');
    my $pair = join "\r\n", map { "$_: $alice->{pair}{$_}" }
                            sort keys %{$alice->{pair}};
    my $x = "$usual x-hybrid-client";
    my $key = "$alice->{id}:$alice->{secret}";

    for my $case ([ local => 'forge', 'alice', undef, $x ],
                  [ local => 'forge', 'alice', $pair, $x ],
                  (map { [ local => 'forge', 'alice', "$_: $key", $x ],
                         [ m1 => 'anvil', 'alice', "$_: $key",
                           "cf-access-client-id cf-access-client-secret $x" ]
                       } qw(X-Api-Key X-Goog-Api-Key)),
                  [ m1 => 'anvil', 'alice', $pair,
                    "cf-access-client-id cf-access-client-secret $x" ],
                  [ cloud => 'azure', 'carol', undef, "api-key $usual" ])
    {
        my ($model, $who, $as, $auth, $names) = @$case;
        local $t->{as} = $client{$as};

        for my $port (1, 2) {
            like send_raw(\@lines, model => $model, auth => $auth,
                          port => $port), qr{^HTTP/1\.1 200 }, $who;
            my $seen = $b{$who}->last;
            is names($seen), $names, "nothing else, port $port";
            is $seen->{header}{'x-hybrid-client'} // 'carol', $as;
            is $seen->{body}, body($model);
            unlike Hybrid::encode([ map { $_->requests } values %b ]),
                   qr/evil|$alice->{secret}|$carol->{secret}/;
            clear();
        }
    }

    SKIP: {
        skip 'no HTTP/2 here', 1 if $t->run(qw(curl -V)) !~ /\bHTTP2\b/;
        my @h2 = grep { !/^(?:TE|Upgrade|Connection|Keep-Alive|Host_|Trailer
                            |Proxy-Connection|HTTP2-Settings|Content_Length
                            |Transfer-Encoding):/x } @lines;
        is $t->run(qw(curl -sS --http2-prior-knowledge -o /dev/null -w
                      %{http_version}|%{http_code}), (map { ('-H', $_) } @h2,
                      "X-Api-Key: $key", 'User-Agent:', 'Accept:',
                      'Content-Type:'), '-d', body('m1'),
                   'http://127.0.0.1:' . $t->port(3) . '/api/generate'),
           '2|200', 'HTTP/2';
        is names($b{anvil}->last),
           "cf-access-client-id cf-access-client-secret $x", 'nothing else';
        clear();
    }

    # trailers, and 100-continue, which is between client and gateway
    my $s = $t->open;
    $s->send(join "\r\n", 'POST /api/generate HTTP/1.1', 'Host: x',
             'Expect: 100-continue', 'Connection: close',
             'Transfer-Encoding: chunked', 'Trailer: X-Hybrid-Client',
             $t->auth_lines . "\r\n");
    like $s->read_until(qr/\r\n\r\n/), qr{^HTTP/1\.1 100 }, '100-continue';
    $s->send(sprintf "%x\r\n%s\r\n0\r\n%s: evil\r\n%s: evil\r\n\r\n",
             length body('local'), body('local'), 'X-Hybrid-Client', 'Cookie');
    like $s->read_until, qr{^HTTP/1\.1 200 }m, 'then 200';
    $s->close;
    is names($b{forge}->last), $x, 'no trailers';
    is $b{forge}->last->{header}{'x-hybrid-client'}, 'alice';

    like send_raw([ 'Expect: 100-continue' ], auth => ''),
         qr{^HTTP/1\.1 401 }, 'no 100 for a stranger';
    clear();
};


subtest 'Host is constant' => sub {
    for my $host ('', 'evil.test', '127.0.0.1', '[::1]:1', 'EVIL.test.',
                  'azure.test:8443')
    {
        for my $model ('local', 'm1') {
            my $first = 'POST /api/generate HTTP/' . ($host ? '1.1' : '1.0');
            like send_raw([], host => $host && "Host: $host",
                          model => $model, first => $first),
                 qr{^HTTP/1\.1 200 }, "'$host', $model";
        }
    }

    for my $url ('http://evil.test', 'http://evil.test:1', 'https://localhost',
                 'http://127.0.0.1:11434')
    {
        like send_raw([], first => "POST $url/api/generate?x HTTP/1.1"),
             qr{^HTTP/1\.1 200 }, $url;
    }

    like send_raw([ 'Host: second' ]), qr{^HTTP/1\.1 400 }, 'two';

    my $text = $t->run(qw(curl -V)) !~ /\bHTTP2\b/ ? 'no HTTP/2 here|200'
        : $t->run(qw(curl -sS --http2-prior-knowledge -w |%{http_code}), '-H',
            'Host: evil.test', '-H', 'X-Hybrid-Client: evil', '-H',
            "Authorization: $alice->{bearer}", '-d', body('local'),
            'http://127.0.0.1:' . $t->port(3) . '/api/generate?key=1');
    like $text, qr/\|200$/, 'HTTP/2';

    is_deeply { map { ("$_->{target} $_->{header}{host} "
                       . $_->{header}{'x-hybrid-client'} => 1) }
                map { $_->requests } values %b },
        { '/api/generate localhost:11434 alice' => 1,
          '/api/generate anvil.test alice' => 1 }, 'ours only';
    is asked(), 16 + ($text =~ /^no/ ? 0 : 1);
    clear();
};


my %own = (forge => {}, vertex => { bearer => 'authorization' },
           azure => { key => 'api-key' },
           anvil => { id => 'cf-access-client-id',
                      pair => 'cf-access-client-secret' });

# these backends were asked, and each got its own credential only
sub proves {
    my ($name, @order) = @_;

    for my $who (keys %b) {
        my @r = $b{$who}->requests;
        is scalar @r, scalar(grep { $_ eq $who } @order), "$name, $who";

        for my $r (@r) {
            my $text = Hybrid::encode($r->{headers});
            my %n = map { my $n = () = $text =~ /$secret{$_}/g; $n ? ($_, $n)
                                                                   : () }
                    keys %secret;
            my $own = $own{$who};
            is_deeply \%n, { map { $_ => 1 } keys %$own }, "$name at $who";
            is_deeply { map { $_ => $r->{header}{$own->{$_}} } keys %$own },
                { map { $_ => ($_ eq 'bearer' ? 'Bearer ' : '') . $secret{$_} }
                  keys %$own }, 'in its header';
            is $r->{header}{'x-hybrid-client'},
               $who =~ /forge|anvil/ ? 'carol' : undef, "client at $who";
            unlike $text, qr/$carol->{secret}|"mine"/;
        }
    }

    clear();
}


subtest 'credentials of backends' => sub {
    my %mine = (Cookie => 'mine', 'Api-Key' => 'mine');
    local $t->{as} = $carol;

    for my $case ([ all => qw(vertex azure anvil forge) ],
                  [ back => qw(forge anvil azure vertex) ])
    {
        my ($model, @order) = @$case;

        for my $n (0 .. 3) {
            $b{$_}->behave(status => 503) for @order[0 .. $n - 1];
            my $r = $t->post('/v1/completions', body($model), headers =>
                             { %mine, 'User-Agent' => "$model-$n" });
            is "$r->{status} $r->{headers}{'x-hybrid-backend'}",
               "200 $order[$n]";
            proves("$model, $n", @order[0 .. $n]);
        }

        my $line = line("$model-3");
        is "$line->{hybrid_backends} $line->{hybrid_reason}",
           join(',', @order) . ' http_503', 'logged in order';
        is_deeply [ @$line{map { "http_$_" } qw(authorization api_key cookie)},
                    $line->{hybrid_authorization} ],
            [ $carol->{bearer}, 'mine', 'mine', '' ], 'as the client said it';
    }

    # our headers by hand, too: not twice, not at another one
    $_->behave(status => 503) for @b{qw(azure anvil)};
    my $r = $t->post('/api/embed', '{"model":"all","input":"x"}', headers =>
                     { 'User-Agent' => 'embed', 'X-Tenant' => 'ten', %mine });
    my $line = line('embed');
    is "$r->{status} $r->{headers}{'x-hybrid-backend'}", '200 forge';
    is_deeply { map { $_ => $b{$_}->last->{header}{'x-host'} }
                qw(azure anvil forge) }, { azure => 'azure.test:8443',
              anvil => 'anvil.test', forge => 'localhost:11434' };
    is $b{forge}->last->{header}{'x-tenant'}, 'ten', '$http_*';
    is $line->{http_x_tenant}, 'ten', 'which is logged as well';
    is $line->{http_cf_access_client_secret}, '', 'not anvil\'s';
    proves('by hand', qw(azure anvil forge));

    # another proxy_pass in the place of ours
    for my $model (qw(all back cloud)) {
        $t->post('/api/embeddings', qq({"model":"$model","prompt":"x"}));
        my $text = Hybrid::encode($b{forge}->last->{headers});
        unlike $text, qr/Authorization|Api-Key|Cf-Access/i, $model;
        clear();
    }
};


subtest 'what a backend may not do' => sub {
    my %accel = ('X-Accel-Redirect' => '/refused', 'X-Accel-Expires' => '60',
                 'X-Accel-Limit-Rate' => '1', 'X-Accel-Buffering' => 'yes',
                 'X-Accel-Charset' => 'koi8-r');
    my %said = map { ("X-Hybrid-$_" => 'evil') }
               qw(Backend Fallback Reason Limits);
    my $big = { text => 'z' x 3000 };

    # cookies of the gateway's own session, and ways past the gateway
    my %leads = ('Set-Cookie' => 'CF_Authorization=evil; Secure',
                 'set-cookie' => 'a=evil', 'SET-COOKIE' => 'b=evil',
                 Location => 'http://evil.test/', location => '/evil');

    for my $status (200, 201, 400, 500) {
        $b{forge}->behave(status => $status, body => $big, headers =>
                          { %accel, %said, %leads, 'X-Other' => 'o' });
        my $r = $t->post('/api/generate', body('local'));
        is $r->{status}, $status;
        is_deeply $r->{json}, $big, 'the body, not at a byte a second';
        is_deeply { map { $_ => $r->{headers}{$_} }
                    grep { /^x-[aho]|^content-t|cookie|^location/ }
                    keys %{$r->{headers}} },
            { 'x-other' => 'o', 'x-hybrid-backend' => 'forge',
              'content-type' => 'application/json; charset=utf-8' },
            'nothing of the rest';
        clear();
    }

    # its second token never comes: buffered, the first would not be here
    $slow->behave(headers => \%accel);
    my $s = $t->open;
    $s->send("POST /api/generate HTTP/1.1\r\nHost: x\r\nContent-Length: 16\r\n"
             . $t->auth_lines . "\r\n" . '{"model":"slow"}');
    like $s->read_until(qr/"done":false/), qr/"done":false/, 'no buffering';
    $s->close;

    for my $status (301, 302, 303, 307, 308) {
        my $to = "http://$b{anvil}{addr}/api/generate?a=b";
        $b{forge}->behave(status => $status,
                          headers => { %leads, Location => $to });
        my $r = $t->post('/api/generate', body('local'));
        is $r->{status}, $status, 'a redirect';
        is_deeply [ grep { /cookie|location/ } keys %{$r->{headers}} ], [],
                  'leads nowhere';
        is asked(), 1, 'and is not followed';
        clear();
    }

    # the first one's headers are gone with it
    $b{forge}->behave(status => 503, headers => { %said, Location => 'x' });
    my $r = $t->post('/v1/completions', body('back'), as => $carol);
    is_deeply { map { $_ => $r->{headers}{$_} }
                grep { /^x-hybrid|^location/ } keys %{$r->{headers}} },
        { 'x-hybrid-backend' => 'anvil', 'x-hybrid-fallback' => 'http_503' };
    clear();
};


subtest 'variables' => sub {
    my $ask = sub {
        my ($agent, $path, $content, @o) = @_;
        my $r = $t->request(defined $content ? 'POST' : 'GET', $path, @o,
            content => $content, headers => { 'User-Agent' => $agent });
        my $line = line($agent);
        return ($r, $line, join '|', map { $line->{"hybrid_$_"} }
            qw(client auth verb model backend backends reason authorization));
    };

    my ($r, $line, $text) = $ask->('v1', '/api/generate?x=%41&y',
        '{"model":"Library/LOCAL:latest","stream":false}');
    is $text, 'alice|token|inference|local|forge|forge||';
    like $line->{"hybrid_$_"}, qr/^\d+\.\d{3}$/, $_ for qw(ttft queue_time);
    is $line->{hybrid_host}, 'localhost:11434';
    is "@$line{qw(request request_uri uri args)}",
       'POST /api/generate?x=%41&y HTTP/1.1 /api/generate?x=%41&y '
       . '/api/generate x=%41&y';
    is "@$line{qw(http_host http_authorization)}",
       '127.0.0.1:' . $t->port . " $alice->{bearer}";
    is "$line->{sent_http_x_shown}, $r->{headers}{'x-shown'}",
       'by forge yes, by forge yes', 'in map and add_header';

    ($r, $line, $text) = $ask->('v2', '/api/tags');
    is $text, 'alice|token|read|||||', 'a list';
    is $r->{headers}{'x-shown'}, 'nobody yes';

    ($r, $line, $text) = $ask->('v3', '/api/chat', body('local'), as => undef);
    is "$r->{status} $text", '401 ||||||unauthenticated|', 'a stranger';
    is $r->{headers}{'x-shown'}, 'nobody no';

    # they outlive internal redirects
    ($r, $line, $text) = $ask->('v4', '/v1/completions', '{"model":"a/b"}');
    is "$r->{status} $r->{content}", '403 alice a/b model_denied';
    is $text, 'alice|token|inference|a/b|||model_denied|', 'error_page';

    $b{forge}->behave(close_before_header => \1, times => 2);
    ($r, $line, $text) = $ask->('v5', '/api/generate?z', body('local'));
    is "$r->{status} $line->{request_uri}", '200 /api/generate?z';
    like $text, qr/^alice\|token\|inference\|local\|forge\|forge\|/,
         'error_page that asks again';
    my $seen = $b{forge}->last;
    is names($seen), 'content-length content-type host user-agent '
                     . 'x-hybrid-client', 'by the same rules';
    is "$seen->{target} $seen->{body}", '/api/generate ' . body('local');
    clear();
};


subtest 'the memory of a worker' => sub {
    my ($user, $gid) = (getpwnam 'nobody')[0, 3];

    plan skip_all => 'nobody can take another user' if $> != 0 || !$user;
    plan skip_all => 'ASan looks into it' if $ENV{ASAN_OPTIONS};

    my $other = Hybrid->new;
    my $group = getgrgid $gid;

    $other->start(main => "user $user $group;", http => <<"END");
        hybrid_client alice { $alice->{line} models *; }
        hybrid_backend azure { pass http://$b{azure}{addr}; egress cloud;
                               credential header Api-Key $file{key}; }
        hybrid_route * azure;
END
    is $other->get('/api/tags', as => $alice)->{status}, 200, 'it works';

    # what is not dumpable belongs to root, whoever runs it
    my ($pid) = Hybrid::_workers($other->{pid});
    my ($euid) = Hybrid::_slurp("/proc/$pid/status") =~ /^Uid:\s+\d+\s+(\d+)/m;
    isnt $euid, 0, 'with few rights';
    is((stat "/proc/$pid/environ")[4], 0, 'and nobody else may read it');
    ok $other->stop, 'ended';
};


# whatever was asked for above
my $any = join '|', values %secret;
my $text = join '', map { $t->log($_) } qw(access.log error.log nginx.out);
ok $text !~ /$any/, 'no secret of a backend in any log';
unlike $t->log('error.log'), qr/$alice->{secret}|$carol->{secret}/,
       'none of a client in the error log';

$t->done;
