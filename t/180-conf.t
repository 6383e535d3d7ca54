# The configurations in conf/ are complete: nginx takes them as they are, but
# for the places of files, and what is beside them can be read.  What they do
# is t/700-deployed.t.

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

# YAML, and the scripts in it
my $read = <<'END';
import sys, yaml
for name in sys.argv[1:]:
    with open(name) as f:
        text = f.read()
    data = yaml.safe_load(text)
    assert isinstance(data, dict) and data, name
    if text.startswith("#cloud-config"):
        for n, file in enumerate(data["write_files"]):
            with open(f"script.{n}", "w") as f:
                f.write(file["content"])
END

my @yaml = map { glob "$Hybrid::ROOT/$_" }
           qw(conf/*/*.yml conf/*/*.yaml docker/*.yaml);
cmp_ok(scalar @yaml, '>=', 6, 'YAML');
my $said = $t->run('python3', '-c', $read, @yaml);
is($t->{rc}, 0, 'can be read') or diag($said);

my @scripts = (glob("$t->{dir}/script.*"),
               "$Hybrid::ROOT/conf/gcp/startup.sh");
cmp_ok(scalar @scripts, '>=', 3, 'scripts');

for my $script (@scripts) {
    my $said = $t->run('bash', '-n', $script);
    is($t->{rc}, 0, "$script can be read") or diag($said);
}

done_testing;
