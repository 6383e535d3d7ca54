# /api/tags, /v1/models, /api/ps and /api/version: what the backends really
# have, as far as this client may use it, each model once.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;
use Time::HiRes 'time';

my $t = Hybrid->new;
my $forge = $t->backend('forge', models => 'mistral:7b,private:1b,Qwen:32b,'
                                           . 'long-name-of-forge,odd:1b');
my $anvil = $t->backend('anvil', models => 'mistral:7b,bge-m3,phi3');
my $off = $t->backend('off', models => 'hidden');
my $cloud = $t->backend('cloud', models => 'google/Gemini-2,gpt-4o,dall-e');

my %client = map { $_ => $t->token($_) } qw(all local narrow worker);

my %conf = (workers => 2, http => <<"END");
    hybrid_client all    { $client{all}{line} models * */*; egress any;
                           verbs inference read admin; }
    hybrid_client local  { $client{local}{line} models * */*; }
    hybrid_client narrow { $client{narrow}{line} models mistral* short;
                           egress any; }
    hybrid_client worker { $client{worker}{line} models *; verbs inference; }

    upstream forge { zone forge 64k; server $forge->{addr}; }
    upstream anvil { zone anvil 64k; server $anvil->{addr}; }
    upstream off   { zone off 64k;   server $off->{addr}; }
    upstream cloud { zone cloud 64k; server $cloud->{addr}; }

    hybrid_backend forge { pass http://forge; probe interval=1s;
                           rename short long-name-of-forge;
                           rename odd:1b mistral:7b; }
    hybrid_backend anvil { pass http://anvil; probe interval=1s; }
    hybrid_backend off   { pass http://off; probe off; models static-* one; }
    hybrid_backend cloud { pass http://cloud; api openai; egress cloud;
                           probe interval=1s; models google/* gpt-*;
                           rename mistral:7b gpt-4o; }

    hybrid_route mistral*  anvil,forge cloud;
    hybrid_route one       off;
    hybrid_route gpt-*     cloud;
    hybrid_route google/*  cloud;
    hybrid_route short     forge;
    hybrid_route *         discovered;

    hybrid_route auto    prompt<1k:mistral:7b *:qwen:32b;
    hybrid_route clouded prompt<1k:gpt-4o *:google/gemini-2;

    server { listen 127.0.0.1:%PORT%;
             location / { hybrid_access token; include %PROXY%; }
             location /admin/ { hybrid_access token; hybrid_admin; } }
END

$t->start(%conf);

sub list {
    my ($path, $who) = @_;
    my $r = $t->get($path, as => $client{$who // 'all'});
    return $r->{json} ? $r->{json}{models} || $r->{json}{data} : [];
}

sub names {
    my ($path, $who) = @_;
    return [ sort map { $_->{name} // $_->{id} } @{ list($path, $who) } ];
}

sub entry {
    my ($path, $name, $who) = @_;
    my ($e) = grep { ($_->{name} // $_->{id}) eq $name }
              @{ list($path, $who) };
    return $e || {};
}

sub settles {
    my ($path, $who, $want, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    poll { "@{ names($path, $who) }" eq "@$want" } 8;
    is_deeply(names($path, $who), $want, $what);
}

my @local = qw(Qwen:32b auto bge-m3:latest long-name-of-forge:latest
               mistral:7b odd:1b one:latest phi3:latest private:1b
               short:latest);

# in their canonical form
my @v1 = map { lc } @local;

settles('/api/tags', 'all', [ sort @local ],
        'tags: the union, names that are renamed as clients know them');
settles('/v1/models', 'all', [ sort @v1, 'clouded', 'gpt-4o:latest',
                               'google/Gemini-2:latest' ],
        'models: and of clouds, as they write it');
is_deeply(names('/api/tags', 'local'), [ sort @local ], 'local: the same');
is_deeply(names('/v1/models', 'local'), [ sort @v1 ], 'but no cloud');
is_deeply(names('/api/tags', 'narrow'),
          [ sort qw(auto mistral:7b short:latest) ], 'what a client may use');
is_deeply(names('/v1/models', 'narrow'),
          [ sort qw(auto mistral:7b short:latest) ], 'in both');
is($t->get($_, as => $client{worker})->{status}, 403, "$_ is for readers")
    for '/api/tags', '/v1/models', '/api/ps', '/api/version';


# what is on it

my $e = entry('/api/tags', 'mistral:7b');
is($e->{backend}, 'anvil', 'the first of its route');
is($e->{size}, 1000000, 'the size is kept');
like($e->{digest}, qr/^[0-9a-f]{64}$/, 'so is the digest');
is(ref $e->{details}, 'HASH', 'and details');
is($e->{model}, 'mistral:7b', 'and its name');

$e = entry('/api/tags', 'short:latest');
is($e->{backend}, 'forge', 'one that is renamed');
is($e->{model}, 'short:latest', 'has that name twice');
is($e->{size}, 1000000, 'and its own size');

$e = entry('/api/tags', 'one:latest');
is($e->{backend}, 'off', 'one that is only configured');
is($e->{size}, 0, 'of which nothing is known');
is(entry('/api/tags', 'auto')->{backend}, 'gateway', 'a virtual one');

is(entry('/v1/models', 'phi3:latest')->{owned_by}, 'anvil', 'owned_by');
$e = entry('/v1/models', 'google/Gemini-2:latest');
is($e->{owned_by}, 'cloud', 'of a cloud');
is($e->{created}, 1767225600, 'created');
is($e->{object}, 'model', 'object');

for my $path ('/api/tags', '/v1/models', '/api/ps', '/api/version') {
    my $r = $t->request('HEAD', $path, as => $client{all});
    is($r->{status}, 200, "HEAD $path");
    is($r->{content} // '', '', 'has no body');
    is($r->{headers}{'content-type'}, 'application/json', 'but a type');
    is($r->{headers}{'x-hybrid-backend'}, undef, 'and asks nobody');
}


# what is loaded

settles('/api/ps', 'all', [], 'nothing is loaded');
$forge->control('POST', 'loaded', { 'mistral:7b' => 300, 'Qwen:32b' => 300,
    'long-name-of-forge' => 300, 'private:1b' => -100 });
$anvil->control('POST', 'loaded', { 'mistral:7b' => 300 });

settles('/api/ps', 'all', [ sort qw(Qwen:32b long-name-of-forge
    mistral:7b mistral:7b odd:1b short:latest) ], 'on each backend');
is_deeply([ sort map { $_->{backend} } grep { $_->{name} eq 'mistral:7b' }
            @{ list('/api/ps') } ], [ 'anvil', 'forge' ], 'which is named');
is_deeply(names('/api/ps', 'narrow'),
          [ sort qw(mistral:7b mistral:7b short:latest) ], 'by policy');
is(entry('/api/ps', 'mistral:7b')->{size_vram}, 1000000, 'with its fields');


# versions: what all can do

sub version { $t->get('/api/version', as => $client{all})->{json}{version} }

ok(poll { (version() // '') =~ /^\d+\.\d+/ }, 'a version');

for my $case ([ '0.9.1', '0.12.3', '0.9.1' ], [ '0.12.3', '0.12.10', '0.12.3' ],
              [ '0.12.0', '0.12.0-rc1', '0.12.0-rc1' ],
              [ 'a"b', '1.0.0', '1.0.0' ]) {
    my %told;
    @told{qw(forge anvil)} = @$case;

    for my $backend ($forge, $anvil) {
        $backend->control('POST', 'answers', { '/api/version' => { body =>
            Hybrid::encode({ version => $told{$backend->{name}} }) } });
    }

    # a backend that was updated has been away: here the gateway was
    $t->stop;
    $t->start(%conf);

    ok(poll { (version() // '') eq $case->[2] }, "of @$case[0, 1]: $case->[2]")
        or diag(version());
}

$_->control('POST', 'answers', {}) for $forge, $anvil;


# official clients take them, and what they are not used to

SKIP: {
    my $build = $ENV{HYBRID_BUILD} || "$Hybrid::ROOT/build";
    my $modules = "$build/clients/node_modules";
    skip('no npm clients', 6) if !-d "$modules/ollama";

    symlink $modules, "$t->{dir}/node_modules" or die "symlink: $!";
    $t->file('lists.mjs', <<'END');
import { Ollama } from 'ollama';
import OpenAI from 'openai';

const [id, secret] = process.env.HYBRID_TOKEN.split(':');
const url = process.env.HYBRID_URL;
const ollama = new Ollama({ host: url, headers: {
    'CF-Access-Client-Id': id, 'CF-Access-Client-Secret': secret } });
const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: `${id}:${secret}` });

const tags = (await ollama.list()).models;
console.log('tags', tags.length, tags.every((m) => m.name && m.backend));
const ps = (await ollama.ps()).models;
console.log('ps', ps.length, ps.every((m) => m.expires_at && m.backend));
const ids = [];
for await (const model of openai.models.list()) { ids.push(model.id); }
console.log('models', ids.length, ids.includes('auto'));
const show = await ollama.show({ model: 'mistral:7b' });
console.log('show', show.details !== undefined);
const one = await openai.models.retrieve('mistral:7b');
console.log('one', one.id);
END

    delete local @ENV{qw(HTTP_PROXY HTTPS_PROXY http_proxy https_proxy)};
    local $ENV{HYBRID_URL} = 'http://127.0.0.1:' . $t->port;
    local $ENV{HYBRID_TOKEN} = "$client{all}{id}:$client{all}{secret}";
    my $out = $t->run('node', "$t->{dir}/lists.mjs");

    is($t->{rc}, 0, 'official clients') or diag($out);
    like($out, qr/^tags 10 true$/m, 'ollama list');
    like($out, qr/^ps 6 true$/m, 'ollama ps');
    like($out, qr/^models 13 true$/m, 'openai models');
    like($out, qr/^show true$/m, 'ollama show');
    like($out, qr/^one mistral:7b$/m, 'openai retrieve');
}


# it changes

$forge->control('POST', 'models', [ 'mistral:7b', 'new:3b' ]);
settles('/api/tags', 'all', [ sort qw(auto bge-m3:latest mistral:7b new:3b
    odd:1b one:latest
    phi3:latest) ], 'a model that came, some that went');
is(entry('/api/tags', 'new:3b')->{backend}, 'forge', 'there');

# one that leaves the premises by itself
$forge->control('POST', 'models', { 'mistral:7b' => {}, 'far:1b' =>
    { remote_model => 'far', remote_host => 'https://ollama.com:443' } });
settles('/api/tags', 'all', [ sort qw(auto bge-m3:latest far:1b mistral:7b
    odd:1b one:latest
    phi3:latest) ], 'a remote model, for who may leave');
is_deeply(names('/api/tags', 'local'), [ sort qw(auto bge-m3:latest mistral:7b
    odd:1b one:latest
    phi3:latest) ], 'and for nobody else');

# what an operator has disabled is not offered
my $said = $t->post('/admin/levers', { backend => 'anvil',
    state => 'disable' }, as => $client{all});
is($said->{status}, 200, 'anvil is disabled') or diag($said->{content});
is_deeply(names('/api/tags', 'all'),
          [ sort qw(auto far:1b mistral:7b odd:1b one:latest) ],
          'without anvil');
is(entry('/api/tags', 'mistral:7b')->{backend}, 'forge', 'the next has it');
$t->post('/admin/levers', { backend => 'anvil', state => 'enable' },
         as => $client{all});

# one model alone is a request to who has it
for my $case ([ phi3 => 'anvil' ], [ 'far:1b' => 'forge' ]) {
    my ($model, $backend) = @$case;
    ok(poll {
        my $r = $t->post('/api/show', { model => $model },
                         as => $client{all});
        $r->{status} == 200 && $r->{headers}{'x-hybrid-backend'} eq $backend;
    }, "/api/show of $model: by $backend, which has it");
}


# many

my %many = map { ("model-$_:7b" => { size => $_ }) } 1 .. 500;
$_->control('POST', 'models', \%many) for $forge;
$anvil->control('POST', 'models', { map { ("other-$_" => {}) } 1 .. 500 });
ok(poll { @{ list('/api/tags') } == 1001 }, '1000 models, and one');
my $start = time;
my $r = $t->get('/api/tags', as => $client{all});
cmp_ok(time - $start, '<', 1, 'in one answer, fast');
is(scalar @{ $r->{json}{models} }, 1001, 'all of them');
is(entry('/api/tags', 'model-77:7b')->{size}, 77, 'each with its own');

$t->done;
