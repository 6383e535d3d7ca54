# The lists of models that backends send: what is routed by them, and what a
# backend may send without doing harm.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;
use Time::HiRes qw(sleep time);

my $t = Hybrid->new;
my $forge = $t->backend('forge', models => 'm1,team/Big:7B');
my $anvil = $t->backend('anvil', models => 'm1,m2');
my $lab = $t->backend('lab', models => 'gpt-x');
my $alice = $t->token('alice');
my $carol = $t->token('carol');

$t->{as} = $alice;

my $interval = 0.15;
my $http = <<"END";
    hybrid_client alice { $alice->{line} models * team/* x/*; }
    hybrid_client carol { $carol->{line} models * team/*; egress any; }

    hybrid_backend forge { pass http://$forge->{addr};
        models discover; probe interval=150ms; }
    hybrid_backend anvil { pass http://$anvil->{addr};
        probe interval=150ms; }
    hybrid_backend lab { pass http://$lab->{addr}; api openai;
        models discover; probe interval=150ms; }
    hybrid_route * discovered;
    hybrid_route team/* discovered;
    hybrid_route x/* discovered;
END

$t->start(workers => 2, http => $http);


sub chat {
    my ($model, @o) = @_;
    my $path = $o[0] && $o[0] eq 'v1' ? '/v1/chat/completions' : '/api/chat';
    shift @o if $o[0] && $o[0] eq 'v1';
    return $t->post($path, { model => $model, stream => JSON::PP::false,
                             messages => [] }, @o);
}

sub who {
    my $r = chat(@_);
    return $r->{status} == 200 ? $r->{headers}{'x-mock-name'} : $r->{status};
}

# both workers have seen it
sub becomes {
    my ($wanted, $name, @ask) = @_;
    my $n = 0;
    my $from = time;

    ok poll { $n = who(@ask) eq $wanted ? $n + 1 : 0; $n >= 6 }, $name;

    return time - $from;
}


becomes 'forge', 'a model is found by the list of its backend',
        'team/big:7b';
is who($_), 'forge', "whatever it is called: $_"
    for 'Team/BIG:7b', 'registry.ollama.ai/team/big:7b';
becomes 'anvil', 'and another one', 'm2';
is who('m2:latest'), 'anvil', 'the tag may be said';
is who('library/m2'), 'anvil', 'or where it comes from';
becomes 'lab', 'an OpenAI-compatible server has a list too', 'gpt-x', 'v1';

my $r = chat('never');
is $r->{status}, 404, 'nobody ever had this one';
like $r->{content}, qr/model 'never' not found/, 'as Ollama says it';


# models that appear and go

$forge->models('m1', 'new');
my $took = becomes('forge', 'a model that was pulled', 'new');
cmp_ok $took, '<', 5, 'is found soon';
is who('team/big:7b'), 503, 'one that was removed is known';
$r = chat('team/big:7b');
is $r->{headers}{'retry-after'}, 5, 'and may come again';
is $r->{headers}{'x-hybrid-reason'}, 'model_unavailable', 'that is told';

ok $t->reload, 'a reload';
is who('team/big:7b'), 503, 'does not forget it';
is who('new'), 'forge', 'nor what is there';

$forge->models('m1', 'team/big:7b');
becomes 'forge', 'it comes again', 'team/big:7b';


# removed behind our back: the next one is asked, and the list again

$forge->models('m1', 'team/big:7b', 'x/taken');
becomes 'forge', 'one more', 'x/taken';


# models that a machine sends elsewhere

$anvil->models({ m2 => {}, far => { remote_model => 'far',
                                   remote_host => 'https://ollama.test' } });
becomes 'anvil', 'a remote model for one who may', 'far', as => $carol;
is who('far'), 403, 'and not for one who must stay on the premises';
$r = chat('far');
is $r->{headers}{'x-hybrid-reason'}, 'egress', 'by the egress rule';


# what a backend may send

sub list { return '{"models":[' . join(',', @_) . ']}' }
sub entry { return qq({"name":"$_[0]","model":"$_[0]"}) }

my $looked = 0;

sub said {
    my ($regex) = @_;
    my $found = poll { substr($t->log('error.log'), $looked) =~ $regex } 10;
    $looked = length $t->log('error.log');
    return $found;
}

sub sends {
    my ($name, $answer, $regex) = @_;

    $forge->clear;
    $forge->answers('/api/tags' => $answer);
    ok said($regex), "$name: it is logged" if $regex;
    ok poll { grep({ $_->{target} eq '/api/tags' } $forge->probes) >= 2 },
       "$name: probing goes on";
    is who('m3'), 'forge', "$name: the list from before stays" if $regex;

    $forge->answers;
    $forge->models('m1', 'm3');
    $forge->clear;
    poll { grep({ $_->{target} eq '/api/tags' } $forge->probes) >= 2 };
    ok poll { who('m3') eq 'forge' && who('x/a') ne 'forge' },
       "$name: over";
}

$forge->models('m1', 'm3');
becomes 'forge', 'before that', 'm3';

my $told = qr/models of backend "forge" can't be told: /;

sends 'nothing', { body => '' }, qr/${told}it is no JSON object/;
sends 'an array', { body => '[]' }, qr/${told}it is no JSON object/;
sends 'garbage', { body => "\x00\xff<html>" x 1000 }, $told;
sends 'no list', { body => '{"data":[]}' }, qr/${told}it has no list/;
sends 'two lists', { body => list() =~ s/}$/,"models":[]}/r },
      qr/${told}it has two lists/;
sends 'a cut list', { body => substr list(entry('x/a')), 0, -3 }, $told;
sends 'nesting', { body => list(entry('x/a') . ',' . '[' x 100000) }, $told;
sends 'deep members', { body => '{"a":' . '[' x 100 . ']' x 100 . ','
                                . substr list(entry('x/a')), 1 }, $told;
sends 'invalid UTF-8',
      { body => list(entry('x/a'), qq({"name":"b","z":"\xc3\x28"})) }, $told;
sends 'status 204', { status => 204 }, qr/${told}answered with status 204/;
sends 'a redirect', { status => 302, headers => {
      Location => "http://$anvil->{addr}/api/tags" } },
      qr/${told}answered with status 302/;
sends 'gzip', { body => list(), headers => { 'Content-Encoding' => 'gzip' } },
      $told;
sends '50 MB', { before => '{"models":[', body => entry('x/a') . ',',
                 repeat => 1800000, after => entry('x/b') . ']}' },
      qr/${told}answer is larger than/;
sends 'an error', { status => 404, body => '{"error":"x"}' },
      qr/${told}answered with status 404/;

my @odd = ('x' x 5000, 'a b', '../x', 'x\\u0000y', '', 'x\\"', '*', 'x//y');

sends 'odd names', { body => list(map(entry($_), @odd), entry('m1'),
                                  '{}', '{"name":5}', entry('m1')) };
$forge->models('m1', 'x/a', 'x/slow');
$forge->answers('/api/tags' => { body => list(map(entry($_), @odd),
                                              entry('x\\/a')) });
becomes 'forge', 'odd names do not hide others', 'x/a';
is who('m3'), 503, 'what is not there is not there';
$forge->answers('/api/tags' => { body => '{"models":null}' });
becomes 503, 'an empty list is one', 'x/a';
$forge->answers;
becomes 'forge', 'back to usual', 'm1';


# slow: the list of a machine that needs its time

$forge->answers('/api/tags' => { body => list(entry('x/a')),
                                 delay_ms => 800 });
becomes 503, 'a slow list is one', 'm1';
is who('x/a'), 'forge', 'and all of it';
$forge->answers;

unlike $t->log('error.log'), qr/backend "forge" is down/,
       'none of that makes a machine dead';


# five machines with 500 models each, and a zone that is too small

my @five = map { my $n = $_; $t->backend("five$n", models => join ',',
                 map { "five$n-$_" } 1 .. 500) } 1 .. 5;
my $five = "hybrid_client alice { $alice->{line} models *; }\n"
           . "hybrid_route * discovered;\n"
           . join '', map { "hybrid_backend $_->{name} {
                 pass http://$_->{addr}; probe interval=150ms; }\n" } @five;

ok $t->reload(workers => 2, http => $five), 'five machines';

for my $n (1 .. 5) {
    becomes "five$n", "machine $n", "five$n-$_" for 1, 500;
}

is who('five1-501'), 404, 'and no more than that';

my $size = 0;
$_->answers('/api/tags' => { before => '{"models":[', after => entry('five1-2')
            . ']}', body => '{"name":"five1-1","x":"' . 'y' x 1000 . '"},' .
            join('', map { '{"name":"f-' . $_ . '","x":"' . 'y' x 900
                           . '"},' } 1 .. 1000) }) for $five[0];

ok $t->reload(workers => 2, http => "hybrid_zone 3m;\n$five"), 'a small zone';
ok said(qr/backend "five1" can't be told: hybrid_zone is/),
   'a list that is too large for it is told of';
becomes 'five2', 'others are not concerned', 'five2-7';
ok $t->reload(workers => 2, http => "hybrid_zone 8m;\n$five"), 'a larger one';
becomes 'five1', 'has room', 'five1-2';

$t->done;
