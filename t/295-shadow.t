# Shadow mode: what would be refused is let through and told of, and what no
# mode may let through is refused.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridRedis ();
use Test::More;

my $t = Hybrid->new;
my $forge = $t->backend('forge', models => 'm,n,hf.co/a/b');
my $cloud = $t->backend('cloud', models => 'm,n');
my %client = map { $_ => $t->token($_) }
             qw(alice reader few bound any closed boss);

sub body { Hybrid::encode({ model => $_[0], stream => \0, @_[1 .. $#_] }) }

my $gateway = 'hybrid_access token; include %PROXY%;';

my $http = <<"END";
    log_format test '\$status \$hybrid_client \$hybrid_shadow \$hybrid_reason';
    access_log access.log test;

    hybrid_zone 2m;
    hybrid_client alice  { $client{alice}{line} models m; }
    hybrid_client reader { $client{reader}{line} models m; verbs read; }
    hybrid_client few    { $client{few}{line} models m; rate 1r/d; }
    hybrid_client bound  { $client{bound}{line} models m;
                           options keep_alive=10m num_ctx=4096; }
    hybrid_client any    { $client{any}{line} models n; egress any; }
    hybrid_client closed { $client{closed}{line} models m;
                           rate 100r/s loss=closed; }
    hybrid_client boss   { $client{boss}{line} models m;
                           verbs inference read admin; }

    upstream forge { server $forge->{addr}; keepalive 4; }
    hybrid_backend forge { pass http://forge; models m n hf.co/a/b; }
    hybrid_backend cloud { pass http://$cloud->{addr}; egress cloud;
                           models m n c; }
    hybrid_backend off { pass http://127.0.0.1:1; models x; }
    hybrid_route m forge cloud;
    hybrid_route n cloud forge;
    hybrid_route c cloud;
    hybrid_route x off;
    hybrid_route * forge;
    hybrid_route */*/* forge;

    server {
        listen 127.0.0.1:%PORT1%;
        location / { hybrid_shadow on; $gateway }
        location = /status  { hybrid_status json; }
        location = /metrics { hybrid_status prometheus; }
        location = /read { hybrid_shadow on; hybrid_access token;
                           hybrid_status json; }
    }

    server {                               # the same, not in shadow mode
        listen 127.0.0.1:%PORT2%;
        location / { satisfy any; allow 127.0.0.1; deny all; $gateway }
    }

    server {                               # let in by address
        listen 127.0.0.1:%PORT3%;
        listen 127.0.0.1:%PORT4% http2;
        satisfy any; allow 127.0.0.1; deny all;
        hybrid_shadow on;
        client_max_body_size 100k; client_body_buffer_size 1k;
        location / { $gateway }
        location = /api/embed { error_page 502 \@strict; $gateway }
        location = /api/embeddings { error_page 502 \@too; $gateway }
        location \@strict { hybrid_shadow off; $gateway }
        location \@too { $gateway }
        location = /read { hybrid_access token; hybrid_status json; }
    }

    server {                               # nobody is let in by address
        listen 127.0.0.1:%PORT5%;
        satisfy any; deny all; hybrid_shadow on;
        location / { $gateway }
    }
END

my %proxy = (proxy => sub { s/^client_(?:max_body|body_buffer)_size.*//mg });

$t->start(http => $http, %proxy);

sub shadowed {
    my ($client) = @_;
    my ($row) = grep { $_->{client} eq $client }
                @{$t->get('/status')->{json}{shadowed}};
    return $row ? $row->{reasons} : {};
}

# a line that has all these texts, in this order
sub logged {
    my ($file, @texts) = @_;
    my $regex = join '.*', map { quotemeta } @texts;
    return $t->wait_log($file, qr/$regex/);
}

# status, X-Hybrid-Shadow, X-Hybrid-Reason
sub ask {
    my ($who, $port, $content, $path) = @_;
    my $r = $t->post($path || '/api/generate', $content,
                     as => $client{$who || ''}, port => $t->port($port));
    return join ' ', $r->{status}, $r->{headers}{'x-hybrid-shadow'} // '-',
                     $r->{headers}{'x-hybrid-reason'} // '-';
}


subtest 'nginx -t says so' => sub {
    ok logged('nginx.out', '[warn] hybrid_shadow is on: refusals of policy '
              . 'and limits are only logged in ', 'nginx.conf:'),
        'with the place';
};


subtest 'policy' => sub {
    is ask('alice', 1, body('m')), '200 - -', 'what is allowed';
    is ask('alice', 1, body('n')), '200 model_denied -', 'a model';
    is ask('alice', 2, body('n')), '403 - model_denied', '... is refused else';
    is $forge->last->{header}{'x-hybrid-client'}, 'alice', 'as itself';

    is ask('reader', 1, body('m')), '200 verb -', 'a verb';
    is ask('reader', 1, body('n')), '200 verb -', 'the first of two';
    is ask('reader', 2, body('m')), '403 - verb', '... is refused else';

    is ask('alice', 1, body('m', keep_alive => 0)), '200 keep_alive -',
        'keep_alive';
    is ask('bound', 1, body('m', keep_alive => '1h')), '200 keep_alive -',
        'its bound';
    is ask('bound', 1, body('m', options => { num_ctx => 9999 })),
        '200 options -', 'options';
    is ask('bound', 1, body('m', options => { num_gpu => 1 })),
        '200 options -', 'an option that is not listed';

    is shadowed('alice')->{model_denied}, 1, 'counted: model_denied';
    is shadowed('alice')->{keep_alive}, 1, 'keep_alive';
    is shadowed('reader')->{verb}, 2, 'verb';
    is shadowed('reader')->{model_denied}, 1, 'and the second of two';
    is shadowed('bound')->{options}, 2, 'options';
    is shadowed('bound')->{keep_alive}, 1, 'keep_alive';

    like $t->get('/metrics')->{content}, qr/^ngx_hybrid_shadowed_total
        \{client="reader",reason="verb",scope="gateway"\}\ 2$/xm, 'metrics';

    ok logged('error.log', '[notice]', 'refused but for hybrid_shadow: '
              . 'model_denied, client "alice", model "n"'), 'in the log';
    ok logged('error.log', 'hybrid_shadow: verb, model_denied, client '
              . '"reader"'), 'all reasons';
    like $t->log('access.log'), qr/^200 alice model_denied -$/m, 'variable';
};


subtest 'limits' => sub {
    is ask('few', 1, body('m')), '200 - -', 'within';
    is ask('few', 1, body('m')), '200 rate_limited -', 'above';
    is ask('few', 2, body('m')), '429 - rate_limited', 'a credit was taken';
    is ask('few', 1, body('n')), '200 rate_limited -', 'the first of two';
    is shadowed('few')->{rate_limited}, 2, 'counted';
    is shadowed('few')->{model_denied}, 1, 'and the second';
};


# nothing leaves the premises, nothing is broken, nothing is administered
subtest 'what is refused all the same' => sub {
    $cloud->clear;

    is ask('alice', 1, body('c')), '403 model_denied egress', 'a cloud';
    is ask('any', 1, body('c')), '403 model_denied egress',
        'whom the cloud is open to, but not with this model';
    is ask('any', 1, body('m')), '200 model_denied -', 'it stays here';
    is ask('any', 1, body('m:cloud')), '403 - model_denied', 'by its name';
    is ask('any', 1, body('n:cloud')), '403 - model_denied', 'by its name';

    $forge->behave(status => 503);
    is ask('any', 1, body('m')), '503 model_denied -', 'nor a fallback';
    is ask('any', 1, body('n')), '200 - -', 'but what is allowed';
    $forge->behave;

    is scalar($cloud->requests), 1, 'no other came to the cloud';

    is ask('alice', 1, body('m', tools => [ { type => 'web_search' } ]),
           '/v1/responses'), '403 - egress', 'a search of the web';
    is ask(undef, 1, body('m')), '401 - unauthenticated', 'nobody';
    is ask('alice', 1, '{"model":"n"'), '400 - invalid_body', 'a broken body';
    is ask('alice', 1, '{"model":"m","Model":"n"}'), '400 - invalid_body',
        'an ambiguous one';
    is ask('alice', 1, body('no')), '404 model_denied model_not_found',
        'no such model';
    is ask('alice', 1, body('m'), '/api/nothing'), '403 - endpoint',
        'an endpoint';
    is ask('alice', 1, body('m'), '/api/tags'), '405 - method', 'a method';
    is ask('reader', 1, body('m'), '/api/pull'), '403 - endpoint', 'a pull';
    is ask('boss', 1, body('n'), '/api/pull'), '403 - model_denied',
        'an administrator';
    is $t->get('/read', as => $client{reader})->{status}, 200, 'the status';

    my $r = $t->post('/api/generate', body('m'), as => $client{alice},
                     headers => { 'Content-Encoding' => 'gzip' });
    is $r->{status}, 415, 'an encoding';
};


subtest 'let in by address' => sub {
    is ask(undef, 3, body('m')), '200 unauthenticated -', 'a stranger';
    is $forge->last->{header}{'x-hybrid-client'}, '-', 'has no name';
    is ask(undef, 2, body('m')), '401 - unauthenticated',
        'not without shadow mode';
    is ask(undef, 5, body('m')), '401 - unauthenticated',
        'not where no address is';

    is ask('alice', 3, body('m')), '200 - -', 'a client is itself';
    is $forge->last->{header}{'x-hybrid-client'}, 'alice', 'to the backend';
    is ask('alice', 3, body('n')), '200 model_denied -', 'and in shadow mode';

    {
        local $client{wrong} = { bearer => "Bearer $client{alice}{id}:no" };
        is ask('wrong', 3, body('m')), '200 unauthenticated -',
            'a wrong secret is a stranger';
        is ask('wrong', 5, body('m')), '401 - unauthenticated', 'or refused';
    }

    is ask(undef, 3, body('hf.co/a/b')), '200 unauthenticated -',
        'a name of three parts';
    $cloud->clear;
    is ask(undef, 3, body('c')), '403 unauthenticated egress', 'no cloud';
    is ask(undef, 3, body('m:cloud')), '403 unauthenticated model_denied',
        'by no name';
    is ask(undef, 3, body('n')), '200 unauthenticated -', 'only here';
    is scalar($cloud->requests), 0, 'not there';

    is ask(undef, 3, '{"model":"m"'), '400 unauthenticated invalid_body',
        'a broken body';
    is ask(undef, 3, body('m'), '/api/pull'), '403 unauthenticated endpoint',
        'no administration';
    is ask(undef, 3, body('m', prompt => 'x' x 200_000)),
        '413 - body_too_large', 'a large body';
    is ask(undef, 3, body('m', prompt => 'x' x 80_000)),
        '200 unauthenticated -', 'a body that is spooled';

    my $r = $t->get('/v1/models', port => $t->port(3));
    is join(' ', sort map { $_->{id} } @{$r->{json}{data}}),
        'hf.co/a/b:latest m:latest n:latest x:latest',
        'the models that are here';
    is $r->{headers}{'x-hybrid-shadow'}, 'unauthenticated', 'with the header';
    is $t->get('/api/version', port => $t->port(3))->{status}, 200, 'no body';
    is $t->get('/read', port => $t->port(3))->{headers}{'x-hybrid-shadow'},
        undef, 'the status is no matter of ours';

    my @pieces = body('m', prompt => 'y' x 5000) =~ /(.{1,500})/g;
    is $t->post('/api/generate', sub { shift @pieces }, port => $t->port(3))
        ->{status}, 200, 'a chunked body';

    cmp_ok shadowed('-')->{unauthenticated}, '>', 8, 'counted';
    ok logged('error.log', 'refused but for hybrid_shadow: unauthenticated, '
              . 'client "-", model "m"', 'client: 127'),
        'in the log, with the address';
};


subtest 'the body comes slowly, or not' => sub {
    my $text = body('m', prompt => 'z' x 3000);
    my $head = "POST /api/generate HTTP/1.1\r\nHost: x\r\n"
             . "Connection: close\r\nContent-Length: " . length($text)
             . "\r\n\r\n";

    my $s = $t->open(port => $t->port(3));
    $s->send($head . substr $text, 0, 10);
    select undef, undef, undef, 0.2;
    $s->send(substr $text, 10);
    like $s->read_until, qr{^HTTP/1\.1 200 .*X-Hybrid-Shadow: una}s, 'slowly';
    $s->close;

    $s = $t->open(port => $t->port(3));
    $s->send($head . substr $text, 0, 10);
    select undef, undef, undef, 0.2;
    $s->close;

    my $many = join '', map { "GET /api/version HTTP/1.1\r\nHost: x\r\n\r\n" }
                        1 .. 5;
    $s = $t->open(port => $t->port(3));
    $s->send($many);
    my $got = $s->read_until(qr/(?:HTTP.*?X-Hybrid-Shadow.*?){5}/s);
    is scalar(() = $got =~ m{HTTP/1\.1 200}g), 5, 'one after the other';
    $s->close;

    my $out = $t->run('curl', '-sS', '--noproxy', '*', '-D', '-',
        '--http2-prior-knowledge', '-d', $text,
        'http://127.0.0.1:' . $t->port(4) . '/api/generate');
    like $out, qr{^HTTP/2 200.*x-hybrid-shadow: unauthenticated}s, 'HTTP/2';
};


# what is let through in one location is not so in the next
subtest 'redirects' => sub {
    is ask(undef, 3, body('x'), '/api/embed'),
        '401 unauthenticated unauthenticated', 'a stranger';
    is ask(undef, 3, body('x'), '/api/embeddings'),
        '401 unauthenticated unauthenticated', 'nor where it may begin';
    is ask('alice', 3, body('x'), '/api/embed'),
        '403 model_denied model_denied', 'a client';
    is ask('alice', 3, body('x'), '/api/embeddings'),
        '502 model_denied backend_error', 'in shadow mode there, too';
};


subtest 'Redis' => sub {
    my $redis = HybridRedis::redis(name => 'redis');
    my $with = "hybrid_redis 127.0.0.1:$redis->{port};\n$http";

    ok $t->reload(http => $with, %proxy), 'reload';
    ok +(poll { $t->get('/status')->{json}{redis}{available} }), 'Redis';

    is ask('closed', 1, body('m')), '200 - -', 'within the limit';
    is ask('few', 1, body('m')), '200 rate_limited -', 'Redis decides';
    is ask('few', 2, body('m')), '429 - rate_limited', '... else, too';

    ok +(poll {
        my $r = $t->get('/status')->{json};
        my ($row) = grep { $_->{client} eq 'few' } @{$r->{shadowed}};
        $r->{scope} eq 'all' && $row && $row->{reasons}{rate_limited} == 3;
    }), 'the counters are in Redis';

    $redis->stop;
    ok +(poll { !$t->get('/status')->{json}{redis}{available} }), 'away';
    is ask('closed', 1, body('m')), '200 limits_unavailable -',
        'nor is a limit that can\'t be known';
    is ask('closed', 2, body('m')), '503 - limits_unavailable', '... else';
};

$t->done;
