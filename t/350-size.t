# "hybrid_route auto prompt<4k:small *:large": the prompt's size chooses the
# model, before policy and route, and the backend gets that model's name.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;

my $t = Hybrid->new;
my $forge = $t->backend('forge', models => 'large:70b,other,emb');
my $anvil = $t->backend('anvil', models => 'small:1b,middle');
my $vertex = $t->backend('vertex', models => 'google/gemini');

my $alice = $t->{as} = $t->token('alice');
my $bob = $t->token('bob');
my $carol = $t->token('carol');

$t->start(http => <<"END");
    hybrid_client alice { $alice->{line} models small:* middle* large* huge;
                          verbs inference read admin; egress any; }
    hybrid_client bob   { $bob->{line} models small:*; }
    hybrid_client carol { $carol->{line} models auto small:* huge; }

    upstream forge  { zone forge 64k; server $forge->{addr} max_fails=0; }
    upstream anvil  { zone anvil 64k; server $anvil->{addr} max_fails=0; }

    hybrid_backend forge  { pass http://forge; models large:* other emb;
                            probe off; }
    hybrid_backend anvil  { pass http://anvil; models small:* middle;
                            rename middle-size middle; probe off; }
    hybrid_backend vertex { pass http://$vertex->{addr};
                            api openai; egress cloud; probe off;
                            rename huge google/gemini; }

    hybrid_route small:*     anvil;
    hybrid_route middle-size anvil;
    hybrid_route large:*     forge;
    hybrid_route *           forge;
    hybrid_route huge        vertex;

    hybrid_route Auto prompt<100:small:1b prompt<1k:middle-size *:large:70b;
    hybrid_route cloudy prompt<100:small:1b *:huge;

    log_format model "\$hybrid_model \$hybrid_backend \$status";
    access_log access.log model;

    server { listen 127.0.0.1:%PORT%;
             location / { hybrid_access token; include %PROXY%; } }
    server { listen 127.0.0.1:%PORT2%; client_body_buffer_size 1k;
             location / { hybrid_access token; include %PROXY%; } }
END

# what of a request each backend has seen: backend, model in the body
sub ask {
    my ($path, $body, %o) = @_;
    $_->clear for $forge, $anvil, $vertex;
    my $r = $t->post($path, $body, %o);
    my @seen = grep { $_->{backend} } map {
        my $last = $_->last;
        $last->{method} ? { backend => $_->{name}, %$last } : {};
    } $forge, $anvil, $vertex;
    return ($r, $seen[0] || {}, scalar @seen);
}

sub chat {
    my ($n, %o) = @_;
    return { model => 'auto',
             messages => [{ role => 'user', content => 'x' x $n }], %o };
}

sub goes {
    my ($name, $path, $body, $backend, $model, %o) = @_;
    my $header = delete $o{header} // $model;
    my $want = ref $body ? Hybrid::encode({ %$body, model => $model })
                         : $body =~ s/"auto"/"$model"/r;
    my ($r, $seen, $n) = ask($path, $body, %o);

    subtest $name => sub {
        my $status = $path eq '/v1/responses' ? 404 : 200;   # of the mock
        is($r->{status}, $status, 'answered') or diag($r->{content});
        is($n, 1, 'one backend is asked');
        is($seen->{backend}, $backend, "by $backend");
        is($seen->{body_sha256}, Hybrid::sha256($want), 'under its name');
        is($r->{headers}{'x-hybrid-model'}, $header, 'X-Hybrid-Model');
        is($r->{headers}{'x-hybrid-backend'}, $backend, 'X-Hybrid-Backend');
    };
    return ($r, $seen);
}


# sizes, in every dialect; 100 tokens are 400 bytes, 1k are 4096

goes('a short chat', '/api/chat', chat(10), 'anvil', 'small:1b');
goes('a longer one', '/api/chat', chat(500), 'anvil', 'middle',
     header => 'middle-size');
goes('a long one', '/api/chat', chat(5000), 'forge', 'large:70b');

for my $case ([ '/v1/chat/completions', 'messages' ],
              [ '/v1/messages', 'messages', max_tokens => 9 ],
              [ '/v1/responses', 'input' ],
              [ '/v1/responses', 'instructions', input => 'x' ],
              [ '/v1/completions', 'prompt' ],
              [ '/v1/completions', 'suffix', prompt => 'x' ],
              [ '/api/generate', 'prompt' ],
              [ '/api/generate', 'system', prompt => 'x' ],
              [ '/api/chat', 'tools', messages => [] ]) {
    my ($path, $key, %more) = @$case;

    for my $row ([ 10 => 'anvil', 'small:1b' ], [ 5000 => 'forge',
                                                  'large:70b' ]) {
        my $text = 'x' x $row->[0];
        my $value = $key =~ /messages|tools/
                    ? [{ role => 'user', content => $text }] : $text;

        goes("$path, $key of $row->[0] bytes", $path,
             { model => 'auto', %more, $key => $value }, @$row[1, 2]);
    }
}

goes('parts of a prompt are added', '/api/generate',
     { model => 'auto', prompt => 'x' x 300, system => 'y' x 300 }, 'anvil',
     'middle', header => 'middle-size');
goes('what is not the prompt does not count', '/api/generate',
     { model => 'auto', prompt => 'x', format => { type => 'x' x 9000 } },
     'anvil', 'small:1b');
goes('a key in other letters counts', '/api/generate',
     '{"model":"auto","PROMPT":"' . 'x' x 5000 . '"}', 'forge', 'large:70b');
goes('any form of the name', '/api/chat',
     { %{chat(1)}, model => 'library/AUTO:latest' }, 'anvil', 'small:1b');


# the border, by the bytes between the key and the next: 3 + n of a string

for my $n (396, 397) {
    my $body = '{"model":"auto","prompt":"' . 'x' x ($n - 1) . '"}';
    my @to = $n == 396 ? ('small:1b', 'small:1b') : ('middle', 'middle-size');
    goes("a prompt of $n bytes", '/api/generate', $body, 'anvil', $to[0],
         header => $to[1]);
}


# the rest of the body is as it came, however it came

{
    my $text = '{ "options" : {"temperature":0.10}, "prompt":"'
               . 'y' x 5000 . '" , "m\u006fdel" :  "a\u0075to" ,"z":[1.0e1]}';
    (my $want = $text) =~ s/a\\u0075to/large:70b/;

    for my $port (1, 2) {
        for my $chunked (0, 1) {
            my @pieces = (substr($text, 0, 777), substr($text, 777), undef);
            my ($r, $seen) = ask('/api/generate',
                $chunked ? sub { shift @pieces } : $text,
                port => $t->port($port),
                headers => { 'Content-Type' => 'application/json' });
            is($r->{status}, 200, "port $port, chunked $chunked");
            is($seen->{body_sha256}, Hybrid::sha256($want),
               'only the name is another one');
        }
    }
}


# policy: the right to the real model counts, and where it is

sub refused {
    my ($name, $status, $reason, $path, $body, %o) = @_;
    my ($r, $seen, $n) = ask($path, $body, %o);
    is($r->{status}, $status, $name) or diag($r->{content});
    is($r->{headers}{'x-hybrid-reason'}, $reason, "$name: $reason");
    is($n, 0, "$name: nobody is asked");
    return $r;
}

goes('no right to the virtual name is needed', '/api/chat', chat(1), 'anvil',
     'small:1b', as => $bob);
refused('no right to the model', 403, 'model_denied', '/api/chat', chat(5000),
        as => $bob);
refused('the virtual name gives none', 403, 'model_denied', '/api/chat',
        chat(5000), as => $carol);
goes('a cloud', '/v1/chat/completions', { %{chat(500)}, model => 'cloudy' },
     'vertex', 'google/gemini', header => 'huge');
refused('egress of the real model', 403, 'egress', '/v1/chat/completions',
        { %{chat(500)}, model => 'cloudy' }, as => $carol);
goes('the small one stays here', '/v1/chat/completions',
     { %{chat(5)}, model => 'cloudy' }, 'anvil', 'small:1b', as => $carol);


# where there is no prompt

for my $path (qw(/api/embed /api/embeddings /v1/embeddings)) {
    my $r = refused("$path is not for it", 400, 'virtual_model', $path,
                    { model => 'auto', input => 'x', prompt => 'x' });
    like($r->{content}, qr/embeddings need the name of one model/,
         'and says why');
}

for my $path (qw(/api/pull /api/create)) {
    refused($path, 400, 'virtual_model', $path, { model => 'auto' });
}

refused('a form', 400, 'virtual_model', '/v1/audio/transcriptions',
    join("\r\n", '--b', 'Content-Disposition: form-data; name="model"', '',
         'auto', '--b--', ''),
    headers => { 'Content-Type' => 'multipart/form-data; boundary=b' });

goes('what it can do is what the largest can', '/api/show',
     { model => 'auto' }, 'forge', 'large:70b');

{
    my $r = $t->get('/v1/models/auto');
    is($r->{status}, 200, 'the same by OpenAI');
    is($forge->last->{target}, '/v1/models/large:70b', 'under its name');
}


# others are as they were

{
    my ($r, $seen) = ask('/api/chat', { %{chat(1)}, model => 'large:70b' });
    is($seen->{backend}, 'forge', 'the model itself can be asked for');
    is($r->{headers}{'x-hybrid-model'}, undef, 'which needs no header');
}

refused('a name that is like it', 403, 'model_denied', '/api/chat',
        { %{chat(1)}, model => 'auto:7b' });

my $log = $t->wait_log('access.log', qr/^large:70b forge 200$/m);
ok($log, 'the log has the real model');
unlike($log, qr/^auto \S+ 200/m, 'and not the virtual one');

$t->done;
