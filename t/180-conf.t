# The configurations in conf/ are complete: nginx takes them as they are, but
# for the places of files and the port.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;

my $t = Hybrid->new;
my $ca = $t->ca;
my $cert = $t->cert($ca, 'gateway.example.com');

for my $name (qw(secrets clients.d)) {
    mkdir "$t->{dir}/$name" or die "$t->{dir}/$name: $!";
}

my %files = (
    'gateway.pem' => $cert->{cert},
    'gateway.key' => $cert->{key},
    'clients-ca.pem' => $ca->{cert},
    'secrets/gateway.pem' => $cert->{cert},
    'secrets/gateway.key' => $cert->{key},
);

while (my ($name, $from) = each %files) {
    symlink $from, "$t->{dir}/$name" or die "$t->{dir}/$name: $!";
}

$t->file('secrets/forge.id', "0123456789abcdef.access\n");
$t->file('secrets/forge.secret', "a-secret\n");
$t->file('secrets/openai', "a-key\n");
$t->file('secrets/ollama', "another-key\n");
$t->file("secrets/access.$_", "value\n") for qw(id secret);
$t->file('clients.d/lightrag.conf',
    "hybrid_client lightrag { token l.access sha256:"
    . '0123456789abcdef' x 4 . "; models *; egress any; }\n");

for my $name (glob("$Hybrid::ROOT/conf/*/nginx.conf"),
              "$Hybrid::ROOT/docker/nginx.conf")
{
    open my $in, '<', $name or die "$name: $!";
    my $text = do { local $/; <$in> };

    $text =~ s{(/etc/nginx/hybrid|/run/redis|/run|/var/log/nginx|/tmp)/}
              {$t->{dir}/}g;
    $text =~ s{modules/ngx_http_hybrid_module\.so}{$Hybrid::MODULE};
    $text =~ s{include /etc/nginx/modules-enabled/\*\.conf}
              {load_module $Hybrid::MODULE};
    $text =~ s{include (hybrid_\w+\.conf)}{include $Hybrid::ROOT/conf/$1}g;
    $text =~ s{^user .*;}{}m;

    # names of clouds and containers, which are looked up at start
    $text =~ s{server\s+[a-z][\w.-]+:(443|11434);}{server 127.0.0.1:$1;}g;

    my $conf = $t->file('nginx.conf', $text);
    $t->file('error.log', '');

    # what "nginx -t" has taken it does not give back
    local $ENV{ASAN_OPTIONS} = "$ENV{ASAN_OPTIONS},detect_leaks=0"
        if $ENV{ASAN_OPTIONS};

    my $said = $t->run($Hybrid::NGINX, '-t', '-p', "$t->{dir}/", '-c', $conf,
                       '-e', "$t->{dir}/error.log");
    my $short = substr $name, length "$Hybrid::ROOT/";

    is($t->{rc}, 0, "$short is accepted") or diag($said);
    unlike($said . $t->log('error.log'), qr/\[(warn|emerg|alert|crit)\]/,
        'without a warning');
}

done_testing;
