# Clouds behind models at home: OpenAI's API under a base path, Ollama Cloud by
# Ollama's own API, each with its own name for the model, TLS, Host and key;
# and who may not send anything there.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;

my $t = Hybrid->new;
my $ca = $t->ca;
my $forge = $t->backend('forge', models => 'mistral,gpt-oss:120b,phi3');
my $openai = $t->backend('openai', models => 'gpt-4o-mini',
                         tls => $t->cert($ca, 'api.openai.test'));
my $ollama = $t->backend('ollama', models => 'gpt-oss:120b',
                         tls => $t->cert($ca, 'ollama.test'));
my %key = map { $_ => $t->file("key.$_", "key-of-$_\n") } qw(openai ollama);
my %client = map { $_ => $t->token($_) } qw(alice home cloudy);
$t->{as} = $client{alice};

$t->start(ca => $ca->{cert}, http => <<"END");
    hybrid_client alice  { $client{alice}{line} models * *-cloud;
                           egress any; }
    hybrid_client home   { $client{home}{line} models * *-cloud; }
    hybrid_client cloudy { $client{cloudy}{line} models * *-cloud;
                           egress cloud; }

    upstream forge  { zone forge 64k; server $forge->{addr} max_fails=0; }
    upstream openai { zone openai 64k; server $openai->{addr} max_fails=0; }
    upstream ollama { zone ollama 64k; server $ollama->{addr} max_fails=0; }

    hybrid_backend forge { pass http://forge; probe off; }
    hybrid_backend openai {
        pass https://openai/openai/v1; host api.openai.test; api openai;
        egress cloud; credential bearer $key{openai};
        rename mistral* gpt-4o-mini;
    }
    hybrid_backend ollama {
        pass https://ollama; host ollama.test; egress cloud;
        credential bearer $key{ollama};
        rename gpt-oss:120b-cloud gpt-oss:120b;
        rename gpt-oss:120b gpt-oss:120b;
    }

    hybrid_route mistral*     forge openai;
    hybrid_route gpt-oss:120b forge ollama;
    hybrid_route *-cloud      ollama;
    hybrid_route *            forge;
END

sub ask {
    my ($path, $model, $expected, $name, %o) = @_;
    my $r = $t->post($path, { model => $model, prompt => 'x', stream => \0,
        messages => [ { role => 'user', content => 'x' } ] }, %o);
    is join(' ', $r->{status}, map { $r->{headers}{"x-hybrid-$_"} // '-' }
                               qw(backend fallback)), $expected, $name;
    return $r;
}

# what a backend was shown last
sub shown {
    my ($b, %expected) = @_;
    my $last = $b->last;
    my %got = (target => $last->{target}, sni => $last->{sni},
               model => Hybrid::decode($last->{body})->{model},
               map { $_ => $last->{header}{$_} }
               qw(host authorization x-hybrid-client));
    is_deeply \%got, { sni => undef, authorization => undef,
                       'x-hybrid-client' => undef, %expected },
              "$b->{name}: what it was shown";
}

my @cloud = (host => 'api.openai.test', sni => 'api.openai.test',
             authorization => 'Bearer key-of-openai');
my @native = (host => 'ollama.test', sni => 'ollama.test',
              authorization => 'Bearer key-of-ollama');

# OpenAI's API: under the base path, by its own name
ask('/v1/chat/completions', 'mistral:7b', '404 openai http_404',
    'a model that the machine lacks');
$openai->behave(status => 200, all => 1, body => { ok => 1 });
ask('/v1/chat/completions', 'mistral:7b', '200 openai http_404', 'is renamed');
shown($forge, target => '/v1/chat/completions', model => 'mistral:7b',
      host => 'localhost:11434', 'x-hybrid-client' => 'alice');
shown($openai, target => '/openai/v1/chat/completions',
      model => 'gpt-4o-mini', @cloud);

# it does not speak Ollama's API
ask('/api/chat', 'mistral:7b', '404 forge -', 'not by /api');

# Ollama Cloud does
$forge->behave(status => 503);
ask('/api/chat', 'gpt-oss:120b', '200 ollama http_503', 'Ollama Cloud');
shown($ollama, target => '/api/chat', model => 'gpt-oss:120b', @native);
ask('/v1/chat/completions', 'gpt-oss:120b', '200 ollama http_503',
    'and by /v1');
shown($ollama, target => '/v1/chat/completions', model => 'gpt-oss:120b',
      @native);
ask('/api/generate', 'gpt-oss:120b-cloud', '200 ollama -',
    'by the name that Ollama gives it');
shown($ollama, target => '/api/generate', model => 'gpt-oss:120b', @native);

# a client of the premises sends nothing there, whatever fails
$_->clear for $openai, $ollama;
my @home = (as => $client{home});
ask('/api/chat', 'gpt-oss:120b', '503 forge -', 'local: no fallback', @home);
ask('/v1/chat/completions', 'mistral', '503 forge -', 'local', @home);
my $r = ask('/api/chat', 'gpt-oss:120b-cloud', '403 - -', 'local: refused',
            @home);
is $r->{headers}{'x-hybrid-reason'}, 'model_denied';
is scalar($_->requests), 0, "$_->{name} saw nothing" for $openai, $ollama;

# and one of the cloud none to the premises
$forge->clear;
my @cloudy = (as => $client{cloudy});
ask('/api/chat', 'gpt-oss:120b', '200 ollama -', 'cloud only', @cloudy);
$r = ask('/api/chat', 'phi3', '403 - -', 'cloud only: refused', @cloudy);
is $r->{headers}{'x-hybrid-reason'}, 'egress';
is scalar($forge->requests), 0, 'home saw nothing';

$t->done;
