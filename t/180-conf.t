# The configurations in conf/ are complete: nginx takes them as they are, but
# for the places of files.  What they do is t/700-deployed.t.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridConf;
use Test::More;

my $t = Hybrid->new;
my $ca = HybridConf::place($t);

symlink "secrets/gateway.$_", "$t->{dir}/gateway.$_" or die $! for qw(pem key);
symlink $ca->{cert}, "$t->{dir}/clients-ca.pem" or die $!;

$t->file('secrets/forge.id', "0123456789abcdef.access\n");
$t->file('secrets/forge.secret', "a-secret\n");
$t->file('secrets/openai', "a-key\n");
$t->file('secrets/ollama', "another-key\n");
$t->file("secrets/access.$_", "value\n") for qw(id secret);
$t->file('clients.d/lightrag.conf',
    "hybrid_client lightrag { token l.access sha256:"
    . '0123456789abcdef' x 4 . "; models *; egress any; }\n");

for my $name (HybridConf::files()) {
    my $text = HybridConf::text($t, $name);

    # names of clouds and containers, which are looked up at start
    $text =~ s{server\s+[a-z][\w.-]+:(443|11434);}{server 127.0.0.1:$1;}g;
    $text =~ s{%PROXY%}{$Hybrid::ROOT/conf/hybrid_proxy.conf}g;

    my $conf = $t->file('nginx.conf', $text);
    $t->file('error.log', '');

    # what "nginx -t" has taken it does not give back
    local $ENV{ASAN_OPTIONS} = "$ENV{ASAN_OPTIONS},detect_leaks=0"
        if $ENV{ASAN_OPTIONS};

    my $said = $t->run($Hybrid::NGINX, '-t', '-p', "$t->{dir}/", '-c', $conf,
                       '-e', "$t->{dir}/error.log");

    is($t->{rc}, 0, "$name is accepted") or diag($said);
    unlike($said . $t->log('error.log'), qr/\[(warn|emerg|alert|crit)\]/,
        'without a warning');
}

done_testing;
