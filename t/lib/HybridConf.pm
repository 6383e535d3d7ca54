package HybridConf;

# The configurations of conf/, changed as little as this machine needs.
#
#   use HybridConf;
#
#   for my $file (HybridConf::files()) { ... }   # 'conf/azure/nginx.conf'...
#   my $text = HybridConf::text($t, 'conf/gcp/nginx.conf',
#       'listen 8443' => 'listen 127.0.0.1:%PORT%', ...);
#   $t->start(conf => $text, workers => 2, ca => $ca->{cert});
#
# text T, FILE, FROM => TO...   with /etc/nginx/hybrid, /run, /var/log/nginx and
#   /tmp in the test's directory, this build's module, no user, and each FROM,
#   which must be there, replaced by TO
# place T                       clients.d/ and secrets/, and a TLS certificate
#   in secrets/; gives its CA

use strict;
use warnings;

use Hybrid ();


sub files {
    my $root = $Hybrid::ROOT;
    return map { s{^\Q$root\E/}{}r } glob("$root/conf/*/nginx.conf"),
                                      "$root/docker/nginx.conf";
}


sub text {
    my ($t, $file, @change) = @_;

    local $_ = Hybrid::_slurp("$Hybrid::ROOT/$file") or die "$file: $!";

    s{(?:/etc/nginx/hybrid|/run/redis|/run|/var/log/nginx|/tmp)/}
     {$t->{dir}/}g;

    while (my ($from, $to) = splice @change, 0, 2) {
        s{\Q$from\E}{$to}g or die "$file: no \"$from\"";
    }

    s{modules/ngx_http_hybrid_module\.so}{$Hybrid::MODULE};
    s{include /etc/nginx/modules-enabled/\*\.conf}
     {load_module $Hybrid::MODULE};
    s{include hybrid_log\.conf}{include $Hybrid::ROOT/conf/hybrid_log.conf}g;
    s{include hybrid_proxy\.conf}{include %PROXY%}g;
    s{^user .*;}{$> == 0 ? 'user root;' : ''}me;

    return "daemon off;\n$_";
}


sub place {
    my ($t, @names) = @_;
    my $ca = $t->ca;
    my $cert = $t->cert($ca, @names ? @names : 'gateway.example.com');

    for my $name (qw(secrets clients.d)) {
        mkdir "$t->{dir}/$name" or die "$t->{dir}/$name: $!";
    }

    symlink $cert->{cert}, "$t->{dir}/secrets/gateway.pem" or die $!;
    symlink $cert->{key}, "$t->{dir}/secrets/gateway.key" or die $!;

    return $ca;
}


1;
