# Which backend a request goes to, and which requests go nowhere: models and
# their aliases, routes, endpoints, policy, lists.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;

my $t = Hybrid->new;
my $has = 'm1,m2,m3,denied,qwen2.5:7b,qwen2.5:32b,qwen:4b,llama3:8b,team/x,'
          . 'gpt-oss:20b-cloud,x:cloud';
my $forge = $t->backend('forge', models => $has);
my $anvil = $t->backend('anvil', models => $has);
my $vertex = $t->backend('vertex', models => "$has,google/gemini,gpt-4o");

my %client = map { $_ => $t->token($_) }
             qw(alice carol dave narrow reader worker root cloudy);
$t->{as} = $client{alice};

$t->start(http => <<"END");
    hybrid_client alice  { $client{alice}{line} models * team/*; }
    hybrid_client carol  { $client{carol}{line}
                           models * google/* *:cloud gpt-oss:*-cloud;
                           egress any; }
    hybrid_client dave   { $client{dave}{line} models *; egress cloud; }
    hybrid_client cloudy { $client{cloudy}{line} models * *:cloud *-cloud; }
    hybrid_client narrow { $client{narrow}{line} models m1 qwen*; }
    hybrid_client reader { $client{reader}{line} models m*; verbs read; }
    hybrid_client worker { $client{worker}{line} models m*;
                           verbs inference; }
    hybrid_client root   { $client{root}{line} models * team/*;
                           verbs admin inference read; }

    upstream two { server $forge->{addr} max_fails=0;
                   server $anvil->{addr} max_fails=0; }

    # names of one machine: only the choice is looked at
    hybrid_backend star   { pass http://$forge->{addr}; probe off; }
    hybrid_backend glob   { pass http://$forge->{addr}; probe off; }
    hybrid_backend longer { pass http://$forge->{addr}; probe off; }
    hybrid_backend exact  { pass http://$forge->{addr}; probe off; }
    hybrid_backend ending { pass http://$forge->{addr}; probe off; }

    hybrid_backend forge  { pass http://$forge->{addr}; probe off;
                            models m1 m2 denied llama3:8b team/x x:cloud
                                   gpt-oss:20b-cloud;
                            rename alias* m1; rename nick m2; }
    hybrid_backend anvil  { pass http://$anvil->{addr}; probe off;
                            models m1 m3 denied; }
    hybrid_backend two    { pass http://two; probe off; models pulled; }
    hybrid_backend based  { pass http://$anvil->{addr}/ollama/; probe off;
                            models based; }
    hybrid_backend vertex { pass http://$vertex->{addr}/v1/projects/p/;
                            api openai; egress cloud;
                            models google/* gpt-4o m1 x:cloud; }
    hybrid_backend openai { pass http://$vertex->{addr}; probe off; api openai;
                            models plain; }

    hybrid_route *            star;
    hybrid_route qwen*        glob;
    hybrid_route qwen2.5*     longer;
    hybrid_route qwen2.5:7b   exact;
    hybrid_route *-ending     ending;

    hybrid_route m1           forge,anvil;
    hybrid_route m2           forge,anvil;
    hybrid_route m3           forge anvil;
    hybrid_route denied       forge;
    hybrid_route llama3*      anvil;
    hybrid_route team/*       anvil;
    hybrid_route alias*       forge;
    hybrid_route nick         forge;
    hybrid_route google/*     vertex;
    hybrid_route gpt-4o       vertex;
    hybrid_route m1-any       star vertex;
    hybrid_route plain        openai;
    hybrid_route based        based;
    hybrid_route pulled       two anvil;
    hybrid_route x:cloud      vertex;
    hybrid_route gpt-oss:*-cloud forge;
END

sub ask {
    my ($model, %o) = @_;
    my $path = delete $o{path} || '/api/generate';
    return $t->post($path, { model => $model, stream => JSON::PP::false }, %o);
}

sub reason { $_[0]{headers}{'x-hybrid-reason'} // '' }
sub by { $_[0]{headers}{'x-hybrid-backend'} // '' }

sub asked {
    my $n = 0;
    $n += $_->stats->{requests} for $forge, $anvil, $vertex;
    return $n;
}

sub refused {
    my ($r, $status, $reason, $name) = @_;
    is "$r->{status} " . reason($r), "$status $reason", $name
        or diag $r->{content};
    ok !length by($r), "$name: no backend";
}


subtest 'the most specific route' => sub {
    is by(ask('qwen2.5:7b')), 'exact', 'exact before any pattern';
    is by(ask('qwen2.5:32b')), 'longer', 'the longer prefix';
    is by(ask('qwen:4b')), 'glob', 'the shorter one';
    is by(ask('other')), 'star', 'and * last';
    is by(ask('other-ending')), 'ending', 'no prefix, but more than *';
    is by(ask('qwen2-ending')), 'glob', 'a prefix before an ending';
    is by(ask('QWEN2.5:7B')), 'exact', 'without case';
    is by(ask('library/qwen2.5:7b')), 'exact', 'with the default namespace';
    is by(ask('qwen2.5')), 'longer', 'without a tag';
    is ask('qwen2.5:7b')->{status}, 200;
};


subtest 'names of the same model' => sub {
    my @names = map { ($_, "$_:latest", "library/$_",
                       "registry.ollama.ai/library/$_", "$_:local",
                       "Library/$_:LATEST", "$_:latest:local",
                       "registry.ollama.ai/LIBRARY/$_:Latest:LOCAL",
                       uc, ucfirst) } qw(denied m1);
    my $before = asked();

    for my $name (grep { /denied/i } @names) {
        for my $path ('/api/chat', '/v1/chat/completions', '/api/show') {
            my $r = ask($name, as => $client{$path eq '/api/show' ? 'reader'
                                                       : 'narrow'},
                        path => $path);
            refused($r, 403, 'model_denied', "$name, $path");
        }
    }

    is asked(), $before, 'no backend was asked';

    for my $name (grep { !/denied/i } @names) {
        my $r = ask($name, as => $client{narrow});
        is $r->{status}, 200, $name or diag $r->{content};
        like by($r), qr/^(?:forge|anvil)$/, "$name: routed as m1";
    }

    $before = asked();

    for my $name ('https://registry.ollama.ai/library/m1', 'http://h/n/m1',
                  'https://m1')
    {
        my $r = ask($name);
        refused($r, 400, 'invalid_model', $name);
    }

    refused(ask('other/m1'), 403, 'model_denied', 'another namespace');
    refused(ask('other.host/library/m1'), 403, 'model_denied',
            'another host');
    refused(ask('m1:8b', as => $client{narrow}), 403, 'model_denied',
            'another tag');
    is asked(), $before, 'no backend was asked';
};


subtest 'equals take turns, others wait' => sub {
    my %n;
    $n{by(ask('m1'))}++ for 1 .. 10;
    is_deeply \%n, { forge => 5, anvil => 5 }, 'forge,anvil';

    %n = ();
    $n{by(ask('m2'))}++ for 1 .. 4;
    is_deeply \%n, { forge => 4 }, 'only those that have it';

    %n = ();
    $n{by(ask('m3'))}++ for 1 .. 4;
    is_deeply \%n, { anvil => 4 }, 'the next when the first has it not';

    my $r = ask('m3');
    is $r->{headers}{'x-hybrid-fallback'}, undef, 'which is no fallback';
};


subtest 'no backend has it' => sub {
    my $before = asked();

    my $r = ask('llama3:8b');
    refused($r, 404, 'model_not_found', 'not in models of the route');
    is_deeply $r->{json}, { error => "model 'llama3:8b' not found" },
              'in Ollama\'s words';

    $r = ask('LLAMA3:8B', path => '/v1/chat/completions');
    refused($r, 404, 'model_not_found', '/v1');
    is $r->{json}{error}{message}, "model 'llama3:8b' not found";
    is $r->{json}{error}{type}, 'not_found_error';
    is $r->{json}{error}{code}, 'model_not_found';

    $r = ask('team/x', path => '/v1/messages');
    refused($r, 404, 'model_not_found', '/v1/messages');
    is $r->{json}{type}, 'error';
    is $r->{json}{error}{type}, 'not_found_error';
    is $r->{json}{error}{message}, "model 'team/x' not found";

    $r = ask('gpt-4o', as => $client{carol});
    refused($r, 404, 'model_not_found', 'an OpenAI backend, Ollama\'s API');
    $r = ask('plain');
    refused($r, 404, 'model_not_found', 'a local OpenAI backend, too');
    $r = ask('plain', path => '/api/show');
    refused($r, 404, 'model_not_found', 'nor /api/show');

    is asked(), $before, 'no backend was asked';
};


subtest 'which models a client may use' => sub {
    my $before = asked();

    refused(ask('m2', as => $client{narrow}), 403, 'model_denied', 'm2');
    refused(ask('nothing', as => $client{narrow}), 403, 'model_denied',
            'one that does not exist');
    refused(ask('team/x', as => $client{carol}), 403, 'model_denied',
            '* is not for a namespace');
    refused(ask('google/gemini', path => '/v1/chat/completions'), 403,
            'model_denied', 'another namespace');

    my $r = ask('m2', as => $client{narrow}, path => '/v1/embeddings');
    is $r->{json}{error}{type}, 'permission_error';
    unlike $r->{content}, qr/m2|narrow/, 'the text tells nothing';

    is asked(), $before, 'no backend was asked';
};


subtest 'egress' => sub {
    my $before = asked();
    my @v1 = (path => '/v1/chat/completions');

    refused(ask('gpt-4o', @v1), 403, 'egress', 'local client, cloud model');
    refused(ask('m1', as => $client{dave}), 403, 'egress',
            'cloud client, local model');
    refused($t->get('/api/version', as => $client{dave}), 403, 'egress',
            'and no local machine for anything else');
    is asked(), $before, 'no backend was asked';

    $vertex->behave(status => 200, body => { ok => 1 }, all => 1);

    my $r = ask('gpt-4o', @v1, as => $client{carol});
    is "$r->{status} " . by($r), '200 vertex', 'any: cloud';
    $r = ask('gpt-4o', @v1, as => $client{dave});
    is "$r->{status} " . by($r), '200 vertex', 'cloud: cloud';
    $r = ask('m1', @v1, as => $client{carol});
    like by($r), qr/^(?:forge|anvil)$/, 'any: local';
    $r = ask('google/gemini', @v1, as => $client{carol});
    is "$r->{status} " . by($r), '200 vertex', 'a namespace that is named';

    $vertex->clear;
};


subtest 'names that leave the house by themselves' => sub {
    my $before = asked();
    my @cloud = qw(m1:cloud m1-cloud m1:8b-cloud M1:CLOUD M1-Cloud
                   library/m1:cloud m1-cloud:latest m1-cloud:8b
                   m1:latest-cloud m1:8b:cloud);

    # m1-cloud:8b only may be one: refused by the same rule
    for my $name (@cloud) {
        refused(ask($name), 403, 'model_denied', "$name: not by *");
        refused(ask($name, as => $client{narrow}), 403, 'model_denied',
                "$name: not by a name");
    }

    refused(ask('x:cloud', as => $client{cloudy}), 403, 'model_denied',
            'a pattern, but egress local');
    refused(ask('gpt-oss:20b-cloud', as => $client{cloudy}), 403,
            'model_denied', 'the other suffix');
    refused(ask('y:cloud', as => $client{carol}), 404, 'model_not_found',
            'a route * is not for them');
    is asked(), $before, 'no backend was asked';

    my $r = ask('gpt-oss:20b-cloud', as => $client{carol});
    is "$r->{status} " . by($r), '200 forge', 'allowed and routed by pattern';

    $vertex->behave(status => 200, body => { ok => 1 }, all => 1);
    $r = ask('X:Cloud', as => $client{carol}, path => '/v1/chat/completions');
    is "$r->{status} " . by($r), '200 vertex', 'and by name';
    $vertex->clear;
};


subtest 'paths at the backend' => sub {
    $_->behave(status => 200, body => { ok => 1 }, all => 1)
        for $vertex, $anvil;

    my @v1 = (as => $client{carol});

    ask('gpt-4o', @v1, path => '/v1/chat/completions');
    is $vertex->last->{target}, '/v1/projects/p/chat/completions',
       'the base stands for /v1';
    ask('gpt-4o', @v1, path => '/v1/embeddings?key=x&y');
    is $vertex->last->{target}, '/v1/projects/p/embeddings', 'no query';
    $t->get('/v1/models/gpt-4o', @v1);
    is $vertex->last->{target}, '/v1/projects/p/models/gpt-4o',
       'a model in the path';
    ask('plain', path => '/v1/completions');
    is $vertex->last->{target}, '/v1/completions', 'no base, /v1 stays';
    ask('based');
    is $anvil->last->{target}, '/ollama/api/generate',
       'a base of Ollama comes before';
    ask('based', path => '/v1/messages');
    is $anvil->last->{target}, '/ollama/v1/messages';

    $_->clear for $vertex, $anvil;

    ask('m2', path => '/api/generate?stream=false#x');
    is $forge->last->{target}, '/api/generate', 'no query for Ollama either';
};


subtest 'what is not in the table' => sub {
    my $before = asked();
    my $body = '{"model":"m1"}';
    my $rest = join "\r\n", '', 'Host: x', 'Content-Length: ' . length $body,
                    'Connection: close', $t->auth_lines . "\r\n$body";

    for my $path ('/api', '/api/', '/api/chat/', '/API/CHAT', '/api/Chat',
        '//api/chat', '/api//chat', '/api/./chat', '/api/x/../chat',
        '/api/%63hat', '/api%2fchat', '/api/chat%20', '/api/chat;x',
        '/api/chat#x', '/./api/chat', '/api/chat/x', '/api/cha',
        '/v1/chat/completions/', '/v1/chat%2fcompletions', '/v1',
        '/v1/audio/transcriptions', '/v1/images/generations', '/v1/files',
        '/api/blobs/sha256:00', '/api/me', '/api/signout',
        '/api/experimental/web_search', '/_mock/behave', '/metrics',
        '/v1/models/library/m1', '/v1/models/', '/v1/models/m1/',
        '/v1/models/..', '/v1/models/.', '/v1/models/%6d1', '/v1/models/m1%00')
    {
        for my $method ($path =~ /models/ ? 'GET' : 'POST') {
            my $end = $method eq 'GET' ? $rest =~ s/Content-Length: \d+\r\n//r
                                       : $rest;
            my $text = $t->raw("$method $path HTTP/1.1$end");

            # nginx itself refuses some
            like $text, qr{^HTTP/1\.1 (?:403|400) }, "$method $path";
        }
    }

    for my $case ([ 'GET', '/api/chat' ], [ 'GET', '/api/show' ],
                  [ 'PUT', '/v1/chat/completions' ], [ 'DELETE', '/api/tags' ],
                  [ 'HEAD', '/v1/models/m1' ], [ 'OPTIONS', '/api/chat' ])
    {
        my $r = $t->request(@$case);
        is $r->{status}, 405, "@$case";
        is reason($r), 'method';
    }

    is asked(), $before, 'no backend was asked';
};


subtest 'verbs' => sub {
    my $before = asked();

    refused(ask('m1', as => $client{reader}), 403, 'verb', 'reader, chat');
    refused($t->get('/api/tags', as => $client{worker}), 403, 'verb',
            'worker, list');
    refused(ask('m1', as => $client{worker}, path => '/api/show'), 403, 'verb',
            'worker, show');
    refused($t->get('/v1/models/m1', as => $client{worker}), 403, 'verb',
            'worker, a model');

    for my $case ([ 'POST', '/api/pull' ], [ 'POST', '/api/push' ],
                  [ 'POST', '/api/create' ], [ 'DELETE', '/api/delete' ],
                  [ 'POST', '/api/copy' ], [ 'GET', '/api/pull' ])
    {
        my $r = $t->request(@$case, content => '{"model":"m1"}');
        refused($r, 403, 'endpoint', "@$case: as what does not exist");
    }

    is asked(), $before, 'no backend was asked';
    is ask('m1', as => $client{worker})->{status}, 200, 'worker, chat';
    is $t->get('/api/tags', as => $client{reader})->{status}, 200,
       'reader, list';
};


subtest 'keep_alive' => sub {
    my @weapons = qw(0 -1 0.0 -0 -0.5 0e9 1e-300 0.0000001 1e300
                     "0" "0s" "-1" "-1m" "0h0m0s" "-0" "0.0s" "1ns"
                     "0.001us" "2000000h" "+0s" "");
    my $before = asked();

    for my $value (@weapons) {
        for my $path ('/api/generate', '/api/chat', '/api/embed',
                      '/v1/chat/completions')
        {
            my $r = $t->post($path,
                qq({"keep_alive":$value,"model":"m1","stream":false}));
            refused($r, 403, 'keep_alive', "$value, $path");
        }
    }

    is asked(), $before, 'no backend was asked';

    for my $value (qw(300 "5m" "1h30m" "90s" 60.0 null)) {
        my $r = $t->post('/api/generate',
            qq({"keep_alive":$value,"model":"m1","stream":false}));
        is $r->{status}, 200, "allowed: $value" or diag $r->{content};
    }

    for my $value (qw(0 -1)) {
        my $r = $t->post('/api/generate',
            qq({"keep_alive":$value,"model":"m1","stream":false}),
            as => $client{root});
        is $r->{status}, 200, "$value by an administrator";
    }
};


subtest 'lists' => sub {
    my $names = sub {
        my ($path, $as) = @_;
        my $r = $t->get($path, as => $client{$as});
        is $r->{status}, 200, "$path, $as";
        my $list = $r->{json}{models} || $r->{json}{data};
        return [ sort map { $_->{id} || $_->{name} } @$list ];
    };
    my $before = asked();

    my @local = qw(based:latest denied:latest m1:latest m2:latest m3:latest
                   nick:latest pulled:latest);
    is_deeply $names->('/api/tags', 'alice'), \@local, 'all local ones';
    is_deeply $names->('/v1/models', 'alice'), [ sort @local, 'plain' ],
              'and of the other API';
    is_deeply $names->('/api/tags', 'narrow'), [ 'm1:latest' ],
              'only what is allowed';
    is_deeply $names->('/v1/models', 'narrow'), [ 'm1:latest' ];
    is_deeply $names->('/v1/models', 'dave'), [ 'gpt-4o' ], 'only cloud';
    is_deeply $names->('/api/tags', 'dave'), [], 'which is not Ollama';
    is_deeply $names->('/v1/models', 'carol'),
              [ sort @local, qw(plain gpt-4o x:cloud gpt-oss:20b-cloud) ],
              'both';
    is_deeply $names->('/v1/models', 'cloudy'), [ sort @local, 'plain' ],
              'no name with a cloud suffix without the egress';

    # whatever is listed can be asked for
    $_->behave(status => 200, body => { ok => 1 }, all => 1)
        for $forge, $anvil, $vertex;

    for my $who (qw(alice carol dave narrow cloudy)) {
        for my $model (@{$names->('/v1/models', $who)}) {
            is ask($model, as => $client{$who},
                   path => '/v1/chat/completions')->{status}, 200,
               "$who, $model";
        }
    }

    $_->clear for $forge, $anvil, $vertex;
    $before = asked();

    my $r = $t->request('HEAD', '/api/tags');
    is $r->{status}, 200, 'HEAD';
    ok !length($r->{content} // ''), 'without a body';
    is asked(), $before, 'no backend was asked for them';

    my ($m1) = grep { $_->{name} eq 'm1:latest' }
               @{$t->get('/api/tags')->{json}{models}};
    is $m1->{model}, 'm1:latest', 'an entry as of Ollama';
    is ref $m1->{details}, 'HASH';
    like $m1->{modified_at}, qr/^\d{4}-\d\d-\d\dT/;
    is $t->get('/v1/models')->{json}{object}, 'list';
};


subtest 'one model' => sub {
    my $r = $t->get('/v1/models/m1');
    is $r->{status}, 200;
    like $forge->last->{target} // $anvil->last->{target},
         qr{^/v1/models/m1$}, 'by path';
    is $r->{json}{id}, 'm1:latest';

    my $before = asked();
    refused($t->get('/v1/models/m2', as => $client{narrow}), 403,
            'model_denied', 'not allowed');
    refused($t->get('/v1/models/M2:Latest', as => $client{narrow}), 403,
            'model_denied', 'its other name');
    refused($t->get('/v1/models/gpt-4o'), 403, 'egress', 'not to leave');
    refused($t->get('/v1/models/x:cloud'), 403, 'model_denied',
            'one that leaves');
    refused($t->get('/v1/models/llama3:8b'), 404, 'model_not_found',
            'nowhere');
    is asked(), $before, 'no backend was asked';

    $r = $t->get('/v1/models/nick');
    is $r->{status}, 200, 'renamed';
    is $forge->last->{target}, '/v1/models/m2', 'in the path';
};


subtest '/api/show' => sub {
    for my $key (qw(model name)) {
        my $r = $t->post('/api/show', { $key => 'm2' });
        is $r->{status}, 200, $key;
        is $forge->last->{body}, qq({"$key":"m2"});

        my $before = asked();
        refused($t->post('/api/show', { $key => 'm2' },
                as => $client{narrow}), 403, 'model_denied', $key);
        refused($t->post('/api/show', { $key => 'x:cloud' }), 403,
                'model_denied', "$key that leaves");
        is asked(), $before;
    }

    my $before = asked();

    for my $body ('{"model":"m1","name":"m2"}', '{"name":"m1","model":"m2"}',
                  '{"model":"","name":"m2"}', '{"model":null,"name":"m2"}',
                  '{"name":"m1","name":"m2"}', '{"Name":"m1"}',
                  '{"name":"m1","NAME":"m2"}', '{}', '{"name":null}',
                  '{"name":["m1"]}')
    {
        is $t->post('/api/show', $body)->{status}, 400, $body;
    }

    is asked(), $before, 'no backend was asked';
};


subtest 'administration' => sub {
    my @root = (as => $client{root});

    $_->clear for $forge, $anvil;
    my $r = $t->post('/api/pull', { model => 'pulled',
                                    stream => JSON::PP::false }, @root);
    is $r->{status}, 200, 'pull' or diag $r->{content};
    is $forge->requests + $anvil->requests, 1, 'at one machine';
    is by($r), 'two';

    my $fail = sub {
        my ($name, $status, %fault) = @_;

        for my $case ([ 'POST', '/api/pull' ], [ 'POST', '/api/create' ],
                      [ 'DELETE', '/api/delete' ])
        {
            $_->clear for $forge, $anvil;
            $_->behave(%fault, all => 1) for $forge, $anvil;
            my $r = $t->request(@$case, @root,
                                content => { model => 'pulled' });
            is $r->{status}, $status, "@$case, $name";
            is $forge->requests + $anvil->requests, 1,
               'one machine, one time';
        }
    };

    $fail->('503', 503, status => 503);
    $fail->('404', 404, status => 404);
    $fail->('closed', 502, close_before_header => JSON::PP::true);
    $fail->('reset', 502, reset => JSON::PP::true);
    $_->clear for $forge, $anvil;

    my $before = asked();
    refused($t->post('/api/copy', { source => 'm1', destination => 'a/b' },
                     @root), 403, 'model_denied', 'copy to what is not his');
    refused($t->post('/api/copy', { source => 'a/b', destination => 'm1' },
                     @root), 403, 'model_denied', 'copy from it');
    refused($t->post('/api/create', { model => 'm1', from => 'a/b' }, @root),
            403, 'model_denied', 'create from it');
    refused($t->post('/api/pull', { model => 'x:cloud' }, @root), 403,
            'model_denied', 'pull of what leaves');

    for my $body ('{"source":"m1"}', '{"destination":"m1"}',
                  '{"source":"m1","Source":"m2","destination":"m1"}',
                  '{"source":"m1","destination":null}',
                  '{"source":1,"destination":"m1"}')
    {
        is $t->post('/api/copy', $body, @root)->{status}, 400, $body;
    }

    is asked(), $before, 'no backend was asked';

    $r = $t->post('/api/copy', { source => 'm2', destination => 'm2-old' },
                  @root);
    is "$r->{status} " . by($r), '200 forge', 'copy';
    is $forge->last->{target}, '/api/copy';

    $r = $t->post('/api/copy', { destination => 'm2-old', source => 'nick' },
                  @root);
    is "$r->{status} " . by($r), '200 forge', 'copy of a renamed one'
        or diag $r->{content};
    is $forge->last->{body}, '{"destination":"m2-old","source":"m2"}';

    $r = $t->request('DELETE', '/api/delete', @root,
                     content => { name => 'm2-old' });
    is $r->{status}, 200, 'delete, which has a body';
    is $forge->last->{method}, 'DELETE';
    is $forge->last->{body}, '{"name":"m2-old"}';
};


subtest 'what asks for no model' => sub {
    for my $path ('/', '/api/version') {
        is $t->get($path)->{status}, 200, $path;
        is $t->request('HEAD', $path)->{status}, 200, "HEAD $path";
    }

    is $t->get('/?x=1')->{status}, 200, 'with a query';
};


$t->done;
