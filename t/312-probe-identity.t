# Probes show each backend its own credential, over TLS that is verified as
# that of requests is, and nobody another's.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;

my $t = Hybrid->new;
my $ca = $t->ca;
my @options = (models => 'm1');
my $plain = $t->backend('plain', @options);
my $home = $t->backend('home', @options, tls => $t->cert($ca, 'home.test'));
my $cloud = $t->backend('cloud', @options, tls => $t->cert($ca, 'cloud.test'));
my $fake = $t->backend('fake', @options,
                       tls => $t->cert($t->ca('other'), 'fake.test'));
my $named = $t->backend('named', @options,
                        tls => $t->cert($ca, 'someone-else.test'));
my %secret = map { $_ => $t->file("secret.$_", "secret-$_\n") }
             qw(key id home cloud);
my $alice = $t->{as} = $t->token('alice');
my $probe = 'probe interval=100ms timeout=2s;';

my @upstreams = map { "upstream $_->{name} { zone $_->{name} 64k;"
                      . " server $_->{addr}; }\n" }
                $plain, $home, $cloud, $fake, $named;

$t->start(ca => $ca->{cert}, http => <<"END");
    hybrid_client alice { $alice->{line} models *; egress any; }
    @upstreams
    hybrid_backend plain { pass http://plain; $probe
                           credential header X-Key $secret{key}; }
    hybrid_backend home  { pass https://home; host home.test; $probe
                           credential access $secret{id} $secret{home}; }
    hybrid_backend cloud { pass https://cloud/base/v1; host cloud.test;
                           api openai; egress cloud; $probe
                           credential bearer $secret{cloud}; }
    hybrid_backend fake  { pass https://fake; host fake.test; $probe
                           credential bearer $secret{cloud}; }
    hybrid_backend named { pass https://named; host named.test; $probe
                           credential bearer $secret{cloud}; }
    hybrid_route * plain;
END

my @names = qw(x-key cf-access-client-id cf-access-client-secret
               authorization host);

sub shown {
    my ($b, $target, $sni, %expected) = @_;
    ok scalar(poll { ($b->probes) > 1 }), "$b->{name}: is asked";

    my ($p) = grep { $_->{target} eq $target } $b->probes;
    is $p->{method}, 'GET', $target;
    is $p->{sni}, $sni, 'SNI';
    is_deeply { map { exists $p->{header}{$_} ? ($_ => $p->{header}{$_}) : () }
                    @names }, \%expected, 'its own credential';
    like $p->{header}{'user-agent'}, qr{^hybrid-probe/}, 'who asks';
}

shown($plain, '/api/tags', undef, host => 'localhost:11434',
      'x-key' => 'secret-key');
shown($home, '/api/tags', 'home.test', host => 'home.test',
      'cf-access-client-id' => 'secret-id',
      'cf-access-client-secret' => 'secret-home');
shown($cloud, '/base/v1/models', 'cloud.test', host => 'cloud.test',
      authorization => 'Bearer secret-cloud');

for my $b ($fake, $named) {
    ok defined $t->wait_log('error.log',
                            qr/"$b->{name}" is down: .*certificate/),
       "$b->{name}: is not who it should be";
    is scalar($b->probes), 0, 'and saw nothing';
}

# a secret that changes
$t->file('secret.new', "another\n");
rename "$t->{dir}/secret.new", $secret{key} or die;
ok scalar(poll { ($plain->probes)[-1]{header}{'x-key'} eq 'another' }),
   'the new one is shown';

unlike $t->log('error.log'), qr/secret-|another/, 'none is in the log';

$t->done;
