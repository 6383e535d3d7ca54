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

mkdir "$t->{dir}/secrets" or die "$t->{dir}/secrets: $!";

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

for my $name (glob "$Hybrid::ROOT/conf/{identity,routing}/nginx.conf") {
    open my $in, '<', $name or die "$name: $!";
    my $text = do { local $/; <$in> };

    $text =~ s{/etc/nginx/hybrid/}{$t->{dir}/}g;
    $text =~ s{(/run|/var/log/nginx)/}{$t->{dir}/}g;
    $text =~ s{modules/ngx_http_hybrid_module\.so}{$Hybrid::MODULE};
    $text =~ s{include hybrid_proxy\.conf}
              {include $Hybrid::ROOT/conf/hybrid_proxy.conf};
    $text =~ s{^user .*;}{}m;

    # names of clouds, which are looked up at start
    $text =~ s{server [a-z][\w.-]+:443;}{server 127.0.0.1:443;}g;

    my $conf = $t->file('nginx.conf', $text);

    # what "nginx -t" has taken it does not give back
    local $ENV{ASAN_OPTIONS} = "$ENV{ASAN_OPTIONS},detect_leaks=0"
        if $ENV{ASAN_OPTIONS};

    my $said = $t->run($Hybrid::NGINX, '-t', '-p', "$t->{dir}/", '-c', $conf,
                       '-e', "$t->{dir}/error.log");
    my ($short) = $name =~ m{(conf/.*)};

    is($t->{rc}, 0, "$short is accepted") or diag($said);
    unlike($said . $t->log('error.log'), qr/\[(warn|emerg|alert|crit)\]/,
        'without a warning');
}

done_testing;
