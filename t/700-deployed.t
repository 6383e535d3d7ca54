# The configurations of conf/ at work, each with stand-ins for what is around
# it: LightRAG's sidecar, Cloudflare's edge and the origin behind it in one
# chain; the VM at Google with two paths home, its metadata server and Vertex.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridConf;
use HybridJwt;
use HybridOdd;
use Test::More;

# what conf/origin has for its caller, and Cloudflare for the application
my $id = '88bf3b6d86161464f6509f7219099e57.access';
my $aud = '4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2';
my $host = 'ollama.example.com';
my $team = 'team.cloudflareaccess.com';


# one question, as LightRAG asks it
sub ask {
    my ($t, $model, %o) = @_;
    return $t->post('/api/chat', { model => $model, stream => \0,
        messages => [ { role => 'user', content => 'hello' } ] }, %o);
}

# status, who answered, and why not the first
sub told {
    my ($r) = @_;
    return join ' ', $r->{status},
        map { $r->{headers}{"x-hybrid-$_"} // '-' } qw(backend fallback);
}

sub has_model {
    my ($t, $model) = @_;
    my $r = $t->get('/api/tags');
    return 0 if $r->{status} != 200;
    return scalar grep { $_->{name} eq $model } @{$r->{json}{models}};
}

# what came in never shows a caller's credential to a machine
sub is_clean {
    my ($b, $name) = @_;
    my %h = %{$b->last->{header}};
    is join(' ', grep { /^(?:authorization|cookie|cf-|x-forwarded)/ }
                 sort keys %h), '', $name;
}


subtest 'sidecar, edge, origin, FORGE' => sub {
    my $sidecar = Hybrid->new;
    my $edge = Hybrid->new;
    my $origin = Hybrid->new;
    my $secret = Hybrid::sha256('the secret at Cloudflare');
    my $ca = HybridConf::place($sidecar);
    my $forge = $origin->backend('forge',
        models => 'qwen2.5-coder:32b,mistral:7b,bge-m3');
    my $anvil = $origin->backend('anvil', models => 'phi3:mini,mistral:7b');
    my $openai = $sidecar->backend('openai', models => 'gpt-4o-mini',
        tls => $sidecar->cert($ca, 'api.openai.com'));
    my $key = HybridJwt->key('RS256', kid => 'c1');
    my $other = HybridJwt->key('RS256', kid => 'c1', e => 3);
    my %told = (iss => "https://$team", aud => [ $aud ], type => 'app',
                exp => time + 3600, iat => time, sub => '',
                common_name => $id, nbf => undef, email => undef);

    # the edge: knows the pair, and says who it is in a signed token
    my $cert = $edge->cert($ca, $host, $team);
    my $jwt = $key->mint(claims(%told));
    my $at = Hybrid::_free_port();
    $edge->file('certs.json', jwks($key));
    chmod 0644, "$edge->{dir}/certs.json";

    my $conf = <<"END";
        ssl_certificate $cert->{cert};
        ssl_certificate_key $cert->{key};
        server {
            listen 127.0.0.1:%PORT% ssl;
            location = /cdn-cgi/access/certs { alias %DIR%/certs.json; }
            location / {
                set \$pair
                  \$http_cf_access_client_id:\$http_cf_access_client_secret;
                if (\$pair != "$id:$secret") { return 403; }
                proxy_set_header Host $host;
                proxy_set_header Cf-Access-Client-Id "";
                proxy_set_header Cf-Access-Client-Secret "";
                proxy_set_header Cf-Access-Jwt-Assertion $jwt;
                proxy_set_header Cf-Connecting-Ip 203.0.113.7;
                proxy_set_header Cookie CF_Authorization=$jwt;
                proxy_set_header Connection "";
                proxy_http_version 1.1;
                proxy_buffering off;
                proxy_request_buffering off;
                client_max_body_size 100m;
                proxy_pass http://127.0.0.1:$at;
            }
        }
END
    $edge->start(http => $conf);

    # the origin
    my $dns = HybridOdd->dns($origin, 'dns');
    $dns->names($team => [ '127.0.0.1' ]);
    HybridConf::place($origin);
    my $operator = $origin->token('operator');
    $origin->file('clients.d/operator.conf', "hybrid_client operator {"
        . "$operator->{line} models none; verbs admin; }");
    $origin->start(workers => 2, ca => $ca->{cert},
        conf => HybridConf::text($origin, 'conf/origin/nginx.conf',
            'resolver 1.1.1.1' => "resolver 127.0.0.1:$dns->{port}",
            "jwks       https://$team/" => "trusted_certificate $ca->{cert};"
                . 'jwks https://' . "$team:" . $edge->port . '/',
            'listen 127.0.0.1:8080' => "listen 127.0.0.1:$at",
            'listen 127.0.0.1:8081' => 'listen 127.0.0.1:%PORT%',
            '192.168.1.10:11434' => $forge->{addr},
            '192.168.1.20:11434' => $anvil->{addr}));

    # the sidecar
    my %client = map { $_ => $sidecar->token($_) } qw(notes lightrag);
    my %more = (notes => 'egress local;', lightrag => 'egress any;');
    $sidecar->file('secrets/access.id', "$id\n");
    $sidecar->file('secrets/access.secret', "$secret\n");
    $sidecar->file('secrets/openai', "the-key\n");
    $sidecar->file("clients.d/$_.conf", "hybrid_client $_ {"
        . " $client{$_}{line} models *; $more{$_} concurrency 8;"
        . ' queue 1000 timeout=10m; }') for keys %client;
    $sidecar->{as} = $client{lightrag};
    $sidecar->start(ca => $ca->{cert},
        conf => HybridConf::text($sidecar, 'conf/azure/nginx.conf',
            'listen 127.0.0.1:11434' => 'listen 127.0.0.1:%PORT%',
            'interval=10s' => 'interval=1s',
            "server             $host:443" => 'server 127.0.0.1:'
                . $edge->port,
            'server api.openai.com:443' => "server $openai->{addr}"));

    ok poll { has_model($sidecar, 'qwen2.5-coder:32b') },
        'the sidecar sees what is at home';

    my $r = ask($sidecar, 'qwen2.5-coder:32b');
    is told($r), '200 home -', 'a request crosses all of it';
    is $r->{headers}{'x-mock-name'} // '', 'forge', 'and FORGE answers';
    is $forge->last->{header}{'x-hybrid-client'}, 'sidecar',
        'which is told who asks';
    is $forge->last->{header}{host}, 'localhost:11434', 'by a name it takes';
    is_clean($forge, 'and shown no credential');

    is ask($sidecar, 'phi3:mini')->{headers}{'x-mock-name'}, 'anvil',
        'ANVIL has the small model';

    $r = $sidecar->post('/v1/embeddings', { model => 'bge-m3',
                                            input => 'a b' });
    is told($r), '200 home -', 'embeddings';

    # a stream comes in pieces
    my $s = $sidecar->open;
    my $body = '{"model":"mistral:7b","messages":[]}';
    $forge->behave(hang_after_tokens => 3, times => 1);
    $anvil->behave(hang_after_tokens => 3, times => 1);
    $s->send("POST /api/chat HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        . $sidecar->auth_lines . 'Content-Length: ' . length($body)
        . "\r\n\r\n$body");
    like $s->read_until(qr/"done":false.*\n/), qr{^HTTP/1.1 200 },
        'a token arrives before the answer has ended';
    $s->close;
    $_->clear for $forge, $anvil;

    # nobody comes in beside the edge
    my $forged = $other->mint(claims(%told));
    my $stale = $key->mint(claims(%told, exp => time - 3600));
    for my $case ([ 'nothing' ],
                  [ 'the address of Cloudflare',
                    'CF-Connecting-IP' => '203.0.113.7' ],
                  [ 'the service token itself', %{ {
                    'CF-Access-Client-Id' => $id,
                    'CF-Access-Client-Secret' => $secret } } ],
                  [ 'a token that another key signed',
                    'Cf-Access-Jwt-Assertion' => $forged ],
                  [ 'an old token', 'Cf-Access-Jwt-Assertion' => $stale ])
    {
        my ($what, %headers) = @$case;
        is ask($origin, 'mistral:7b', as => undef, port => $at,
               headers => \%headers)->{status}, 401,
            "the origin: 401 for $what";
    }
    is scalar $forge->requests, 0, 'and FORGE hears nothing of it';

    # a new secret at Cloudflare: the old one is let go of, no reload
    my $new = Hybrid::sha256('another');
    ok $edge->reload(http => $conf =~ s/\Q$secret\E/$new/r), 'rotated';
    ok poll { told(ask($sidecar, 'bge-m3', as => $client{notes}))
              !~ /^200/ }, 'the old one does not do';
    $sidecar->file('secrets/access.secret.new', "$new\n");
    rename "$sidecar->{dir}/secrets/access.secret.new",
           "$sidecar->{dir}/secrets/access.secret" or die $!;
    ok poll { told(ask($sidecar, 'qwen2.5-coder:32b',
                       as => $client{notes})) eq '200 home -' },
        'the new one does, without a reload';

    # the edge is cut
    $openai->behave(status => 200, all => 1, body => { ok => 1 });
    $openai->clear;
    $openai->behave(status => 200, all => 1, body => { ok => 1 });
    my $port = $edge->port;
    ok $edge->stop, 'the edge is cut';

    my $chat = sub {
        my ($model, $who) = @_;
        return $sidecar->post('/v1/chat/completions', { model => $model,
            messages => [ { role => 'user', content => "of $who" } ] },
            as => $client{$who});
    };
    $r = $chat->('qwen2.5-coder:32b', 'lightrag');
    is $r->{status}, 200, 'who may leave is answered at once';
    is $r->{headers}{'x-hybrid-backend'}, 'openai', 'by the cloud';
    ok $r->{headers}{'x-hybrid-fallback'}, 'which is said';
    is Hybrid::decode($openai->last->{body})->{model}, 'gpt-4o-mini',
        'under its own name for the model';
    is $openai->last->{header}{authorization}, 'Bearer the-key', 'our key';

    $r = $chat->('qwen2.5-coder:32b', 'notes');
    ok $r->{status} == 502 || $r->{status} == 503,
        "who may not gets $r->{status}";
    ok poll { $chat->('qwen2.5-coder:32b', 'notes')->{status} == 503 },
        'and 503 when it is known';
    ok $chat->('qwen2.5-coder:32b', 'notes')->{headers}{'retry-after'},
        'with Retry-After';
    is ask($sidecar, 'bge-m3')->{status}, 503,
        'vectors of another model are nobody\'s';
    is scalar(grep { $_->{body} =~ /of notes/ } $openai->requests), 0,
        'not a word of a local client has left';

    # and is back
    $edge->start(http => $conf =~ s/\Q$secret\E/$new/r
                             =~ s/%PORT%/$port/r);
    ok poll { told(ask($sidecar, 'qwen2.5-coder:32b')) eq '200 home -' },
        'home again';

    # levers, beside the tunnel
    my $file = $origin->file('operator.token',
                             "$operator->{id}:$operator->{secret}\n");
    my $said = $origin->run("$Hybrid::ROOT/tools/hybrid-ctl", '-t', $file,
        '-u', 'http://127.0.0.1:' . $origin->port . '/hybrid/admin/',
        'status');
    like $said, qr/forge/, 'hybrid-ctl reaches the origin';
    is ask($origin, 'mistral:7b', as => $operator, port => $at)->{status},
        401, 'its token does not do at the tunnel';

    ok $sidecar->stop && $edge->stop && $origin->stop, 'all leave';
    $_->stop for $forge, $anvil, $openai;
    for my $t ($sidecar, $origin) {
        unlike $t->log('error.log'), qr/\[(?:alert|crit|emerg)\]/,
            'no alert';
    }
};


subtest 'the VM at Google' => sub {
    my $vm = Hybrid->new;
    my $ca = HybridConf::place($vm, 'gateway.example.com');
    my @models = (models => 'qwen2.5-coder:32b,mistral:7b');
    my $vpn = $vm->backend('vpn', @models);
    my $tailscale = $vm->backend('tailscale', @models);
    my $anvil = $vm->backend('anvil', models => 'phi3:mini');
    my $google = 'us-central1-aiplatform.googleapis.com';
    my $vertex = $vm->backend('vertex', tls => $vm->cert($ca, $google));
    my $meta = HybridOdd->new($vm, 'meta');
    my $redis = Hybrid::_free_port();
    my $nobody = '127.0.0.1:' . $vm->closed_port;
    my $token = 'ya29.' . Hybrid::sha256('of the service account');

    my $answer = sub {
        $vertex->behave(status => 200, all => 1, body => { choices => [],
            usage => { prompt_tokens => 1, completion_tokens => 1 } });
    };
    $answer->();
    $meta->answer(200, Hybrid::encode({ access_token => $token,
        expires_in => 3599, token_type => 'Bearer' }),
        'Metadata-Flavor' => 'Google', 'Content-Type' => 'application/json');

    my $start_redis = sub {
        Hybrid::_spawn($vm->{dir}, "$vm->{dir}/redis.out", 'redis-server',
            '--port', $redis, '--bind', '127.0.0.1', '--save', '',
            '--dir', $vm->{dir});
    };
    my $redis_pid = $start_redis->();

    my %client = map { $_ => $vm->token($_) } qw(any local operator);
    my %more = (any => 'models *; egress any;', local => 'models *;',
                operator => 'models none; verbs admin;');
    $vm->file("clients.d/$_.conf", "hybrid_client $_ { $client{$_}{line}"
        . " $more{$_} }") for keys %client;
    $vm->{as} = $client{any};
    $vm->start(workers => 2, ca => $ca->{cert},
        conf => HybridConf::text($vm, 'conf/gcp/nginx.conf',
            'interval=5s' => 'interval=1s',
            'resolver 169.254.169.254' => 'resolver 127.0.0.1:9',
            "unix:$vm->{dir}/redis-server.sock" => "127.0.0.1:$redis",
            'listen 8443 ssl' => 'listen 127.0.0.1:%PORT% ssl',
            'listen 8082' => 'listen 127.0.0.1:%PORT2%',
            'listen 127.0.0.1:8081' => 'listen 127.0.0.1:%PORT3%',
            '192.168.1.10:11434' => $vpn->{addr},
            '100.80.121.94:11434' => $tailscale->{addr},
            '192.168.1.20:11434' => $anvil->{addr},
            '100.80.121.95:11434' => $nobody,
            "server $google:443" => "server $vertex->{addr}",
            'credential gce' => "credential gce metadata=$meta->{addr}"));

    # as a caller does: TLS, with the name verified
    my $chat = sub {
        my ($who, $model, $path) = @_;
        my $port = $vm->port;
        my $text = $vm->run('curl', '-sS', '-i', '--cacert', $ca->{cert},
            '--resolve', "gateway.example.com:$port:127.0.0.1",
            ($who ? ('-H', "Authorization: $client{$who}{bearer}") : ()),
            '-d', Hybrid::encode({ model => $model, stream => \0,
                messages => [ { role => 'user', content => 'hello' } ] }),
            "https://gateway.example.com:$port"
            . ($path // '/v1/chat/completions'));
        my ($status) = $text =~ m{^HTTP/1.1 (\d+)};
        my %h = map { /^([\w-]+): (.*?)\r?$/ ? (lc($1), $2) : () }
                split /\n/, $text;
        return { status => $status // $text, headers => \%h };
    };
    my $told = sub {
        my $r = $chat->(@_);
        return join ' ', $r->{status},
            map { $r->{headers}{$_} // '-' } 'x-hybrid-backend',
                                             'x-mock-name';
    };

    my $status = sub {
        return $vm->get('/hybrid/metrics', port => $vm->port(3),
                        as => undef)->{content};
    };
    ok poll { $status->() =~ /^ngx_hybrid_access_token_expires_seconds/m
              && $status->() =~ /^ngx_hybrid_redis_up 1/m },
        'it has a token of Google, and Redis';

    is $told->('any', 'mistral:7b', '/api/chat'), '200 forge vpn',
        'FORGE, over the VPN';
    is $told->(undef, 'mistral:7b'), '401 - -', 'nobody without a name';
    is_clean($vpn, 'and shown no credential');

    ok poll { $told->('any', 'phi3:mini', '/api/chat') eq '200 anvil anvil' },
        'a model that ANVIL alone has';

    # the VPN is down
    $vpn->stop;
    is $told->('local', 'mistral:7b', '/api/chat'), '200 forge tailscale',
        'the VPN is down: by Tailscale, at once';

    # both are down
    $tailscale->stop;
    $anvil->stop;
    is $told->('any', 'mistral:7b'), '200 vertex vertex',
        'both are down: Vertex, for who may';
    my $last = $vertex->last;
    is $last->{header}{authorization}, "Bearer $token", 'by the VM\'s token';
    is $last->{target}, '/v1/projects/my-project/locations/us-central1'
        . '/endpoints/openapi/chat/completions', 'at the project';
    is $last->{sni}, $google, 'by its name';
    is Hybrid::decode($last->{body})->{model}, 'google/gemini-3.1-flash-lite',
        'which calls the model so';
    ok poll { $told->('local', 'mistral:7b') =~ /^503/ }, 'for others 503';
    is scalar(grep { ($_->{header}{'x-hybrid-client'} // '') ne '' }
              $vertex->requests), 0, 'the cloud is told no names';

    # nor does Redis matter
    Hybrid::_end($redis_pid, 'KILL');
    is $told->('any', 'mistral:7b'), '200 vertex vertex', 'without Redis';

    $vpn->start;
    ok poll { $told->('local', 'mistral:7b', '/api/chat')
              eq '200 forge vpn' }, 'home again';

    # health checks, and levers
    my $r = $vm->get('/healthz', as => undef, port => $vm->port(2));
    is $r->{content}, "ok\n", '/healthz';
    is $vm->get('/api/tags', port => $vm->port(2))->{status}, 404,
        'and nothing else there';
    my $file = $vm->file('operator.token',
        "$client{operator}{id}:$client{operator}{secret}\n");
    like $vm->run("$Hybrid::ROOT/tools/hybrid-ctl", '-t', $file, '-u',
        'http://127.0.0.1:' . $vm->port(3) . '/hybrid/admin/', 'status'),
        qr/forge/, 'hybrid-ctl';

    # Cloud Logging's agent finds what it is told to look for
    my @lines = map { Hybrid::decode($_) }
                split /\n/, $vm->log('hybrid.log');
    my $agent = Hybrid::_slurp("$Hybrid::ROOT/conf/gcp/ops-agent.yaml");
    my @wanted = $agent =~ /_from: jsonPayload\.(\w+)/g;
    cmp_ok scalar @wanted, '>=', 5, 'fields of the log';
    for my $name (@wanted) {
        is scalar(grep { !exists $_->{$name} } @lines), 0,
            "$name is in each line";
    }
    my %level = $agent =~ /^ {12}(\S+): (INFO|WARNING|ERROR)$/mg;
    my %missing = map { $_->{outcome} => 1 }
                  grep { !$level{$_->{outcome} || '""'} } @lines;
    is join(' ', sort keys %missing), '', 'each outcome has a severity';
    my ($outcomes) = Hybrid::_slurp("$Hybrid::ROOT/README.md")
        =~ /^\| `\$hybrid_outcome` \| (.*?);/m;
    is join(' ', sort grep { $_ ne '""' } keys %level),
        join(' ', sort $outcomes =~ /`(\w+)`/g), 'all of them, no others';
    like $lines[-1]{time}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d$/,
        'and the time';

    $vm->done;
};

done_testing;
