# conf/gcp/terraform, without Terraform's providers: that its parts fit
# together, and what must hold whatever is changed: nobody gets in by address,
# no secret in it, no address outside. Its own tests, which plan all variants,
# need "terraform init", and so a registry that is not there for every one.

use strict;
use warnings;

use File::Spec;
use File::Temp;
use JSON::PP;
use Test::More;

my $root = $ENV{HYBRID_ROOT} || '.';
my $build = $ENV{HYBRID_BUILD} || "$root/build";
my $modules = "$build/clients/node_modules";
my $top = "$root/conf/gcp/terraform";

plan(skip_all => 'no npm package hcl2json: tools/deps test installs it')
    if !-d "$modules/\@cdktf/hcl2json";

sub slurp {
    my ($path) = @_;
    open my $in, '<', $path or return '';
    local $/;
    return scalar <$in>;
}

my @files = (glob("$top/*.tf"), glob("$top/modules/*/*.tf"),
             glob("$top/tests/*.tftest.hcl"), "$top/terraform.tfvars.example");

# node finds packages beside the script alone
my $tmp = File::Temp->newdir;
symlink File::Spec->rel2abs($modules), "$tmp/node_modules" or die $!;
open my $script, '>', "$tmp/hcl.mjs" or die $!;
print $script slurp("$root/t/clients/hcl.mjs");
close $script or die $!;

my $json = `node $tmp/hcl.mjs @{[map { quotemeta } @files]} 2>&1`;
my $parsed = eval { JSON::PP->new->decode($json) };
ok($parsed, 'all files are HCL') or BAIL_OUT($json);


# -- what is in a directory

# every string in it, keys as well
sub strings {
    my ($at) = @_;
    return map { ($_, strings($at->{$_})) } sort keys %$at
        if ref $at eq 'HASH';
    return map { strings($_) } @$at if ref $at eq 'ARRAY';
    return defined $at && !ref $at ? $at : ();
}

# hcl2json has a list of one for each block
sub blocks {
    my ($dir, @names) = @_;
    my $all = {};

    for my $file (grep { m{^\Q$dir\E/[^/]+\.tf$} } keys %$parsed) {
        my $at = $parsed->{$file}{$names[0]} or next;
        $at = $at->{$names[1]} or next if @names > 1;
        $all = { %$all, map { $_ => $at->{$_}[0] } keys %$at };
    }

    return $all;
}

sub used {
    my ($dir, $what) = @_;
    my %used;

    for my $file (grep { m{^\Q$dir\E/[^/]+\.tf$} } keys %$parsed) {
        my %rest = %{$parsed->{$file}};

        # a variable's validation is no use of it
        delete $rest{variable};
        $used{$_} = 1 for join("\n", strings(\%rest)) =~ /\b$what/g;
    }

    return [ sort keys %used ];
}

sub resources {
    my ($type) = @_;
    return map { my $all = blocks($_, 'resource', $type);
                 map { [ "$type.$_", $all->{$_} ] } sort keys %$all }
           $top, glob("$top/modules/*");
}

sub list {
    my ($at) = @_;
    return ref $at eq 'ARRAY' ? @$at : defined $at ? $at : ();
}


# -- its parts fit together

for my $dir ($top, glob "$top/modules/*") {
    my ($name) = $dir =~ m{/conf/gcp/(.*)};
    my $variables = blocks($dir, 'variable');

    is_deeply(used($dir, 'var\.(\w+)'), [ sort keys %$variables ],
        "$name: variables are declared, and used");

    is_deeply([ grep { !$variables->{$_}{description}
                       || !$variables->{$_}{type} } sort keys %$variables ],
        [], '  with a description and a type');

    my %locals = map { map { $_ => 1 } map { keys %$_ }
                       list($parsed->{$_}{locals}) }
                 grep { m{^\Q$dir\E/[^/]+\.tf$} } keys %$parsed;
    is_deeply(used($dir, 'local\.(\w+)'), [ sort keys %locals ],
        '  and so are locals');

    my @unknown = grep { my ($type, $which) = split /\./;
                         !blocks($dir, 'resource', $type)->{$which} }
                  @{used($dir, '(google_\w+\.[a-z]\w*)')};
    is_deeply(\@unknown, [], '  resources are declared');

    my $outputs = blocks($dir, 'output');
    is_deeply([ grep { !$outputs->{$_}{description} } sort keys %$outputs ],
        [], '  outputs have a description');
}

my $calls = blocks($top, 'module');
my %wanted = map { $_ => 1 } @{used($top, 'module\.(\w+\.\w+)')};
ok(keys %$calls, 'modules are called');

for my $name (sort keys %$calls) {
    my %given = %{$calls->{$name}};
    my $dir = delete($given{source}) =~ s{^\./}{$top/}r;
    my $variables = blocks($dir, 'variable');
    my $outputs = blocks($dir, 'output');

    is_deeply([ grep { !$variables->{$_} } sort keys %given ], [],
        "module $name: is given what it declares");
    is_deeply([ grep { !exists $given{$_}
                       && !exists $variables->{$_}{default} }
                sort keys %$variables ], [], '  all that it needs');
    is_deeply([ sort map { /^\Q$name\E\.(.*)/ } keys %wanted ],
        [ sort keys %$outputs ], '  and what it puts out is used');
}

my $variables = blocks($top, 'variable');
my $example = "$top/terraform.tfvars.example";
my $set = $parsed->{$example};
my @shown = (keys %$set, slurp($example) =~ /^# (\w+) += /mg);

is_deeply([ sort grep { !exists $variables->{$_} } @shown ], [],
    'the example sets what is declared');
is_deeply([ sort grep { !exists $variables->{$_}{default}
                        && !exists $set->{$_} } keys %$variables ], [],
    '  all that must be');
is_deeply([ sort grep { my $name = $_; !grep { $_ eq $name } @shown }
            grep { !$variables->{$_}{sensitive} } keys %$variables ], [],
    '  and shows the others, too');


# -- nobody gets in by address

my @rules = resources('google_compute_firewall');
my @in = grep { ($_->[1]{direction} // '') eq 'INGRESS' } @rules;
my @deny = grep { $_->[1]{deny} } @in;

is_deeply([ map { $_->[0] } grep { !$_->[1]{direction} } @rules ], [],
    'each rule says its direction');

is(@deny, 1, 'one rule drops what comes in');
is_deeply([ $deny[0][1]{source_ranges}, $deny[0][1]{priority},
            $deny[0][1]{deny}, $deny[0][1]{target_service_accounts} ],
    [ [ '0.0.0.0/0' ], 65534, [ { protocol => 'all' } ], undef ],
    '  all of it, everywhere, last');

for (grep { $_->[1]{allow} } @in) {
    my ($name, $rule) = @$_;
    my @from = list($rule->{source_ranges});

    ok(@from && !grep({ m{/0$} } @from), "$name: not from everywhere");
    is_deeply($rule->{target_service_accounts}, [ '${var.service_account}' ],
        '  to the VM alone');
    is_deeply([ grep { !list($_->{ports}) || $_->{protocol} ne 'tcp' }
                list($rule->{allow}) ], [], '  to TCP ports');

    is_deeply(\@from, [ '35.235.240.0/20' ], '  SSH from IAP alone')
        if grep { /^(?:22|.*-.*)$/ } map { list($_->{ports}) }
           list($rule->{allow});
}

is_deeply($variables->{gateway_ranges}{default}, [],
    'the gateway is open to no range until one is written');
ok(!exists $set->{gateway_ranges}, '  nor by the example');


# -- no secret in it

my @tunnels = resources('google_compute_vpn_tunnel');
is_deeply([ map { $_->[1]{shared_secret} } @tunnels ],
    [ '${var.vpn_secrets[count.index]}' ], 'tunnels have secrets that vary');

for my $dir ($top, "$top/modules/network") {
    my $secrets = blocks($dir, 'variable')->{vpn_secrets};
    ok($secrets->{sensitive}, '  which are not shown');
    is_deeply([ list($secrets->{default}) ], [], '  and have no default');
}

is_deeply([ grep { $variables->{$_}{sensitive} } @shown ], [],
    '  nor are they in the example');

is_deeply([ map { $_->[0] } resources('google_secret_manager_secret_version'),
            resources('google_service_account_key') ], [],
    'values of secrets and keys are not in the state');

# what looks like a key, in anything that is no expression
is_deeply([ grep { !/\$\{/
                   && m{-----BEGIN|^(?=.*\d)[\w+/=-]{32,}$|^AIza|^ya29\.} }
            map { my $file = $_;
                  $file =~ /tests/ ? () : strings($parsed->{$file}) }
            sort keys %$parsed ], [], 'nothing looks like one');


# -- the VM

my @vms = resources('google_compute_instance');
is(@vms, 1, 'one VM');
my $vm = $vms[0][1];

is_deeply([ grep { exists $_->{access_config}
                   || exists $_->{ipv6_access_config}
                   || exists $_->{dynamic} } list($vm->{network_interface}) ],
    [], '  without an address outside');
is_deeply([ grep { ($_->[1]{address_type} // '') ne 'INTERNAL' }
            resources('google_compute_address') ], [], '  nor one in reserve');
is_deeply($vm->{shielded_instance_config},
    [ { map { $_ => JSON::PP::true } qw(enable_secure_boot enable_vtpm
                                        enable_integrity_monitoring) } ],
    '  shielded');

my ($locals) = list($parsed->{"$top/modules/compute/main.tf"}{locals});
my $metadata = $locals->{metadata};
is_deeply([ @$metadata{qw(enable-oslogin block-project-ssh-keys
                          serial-port-enable)} ], [ qw(TRUE TRUE FALSE) ],
    '  with OS Login, without other keys and the serial port');

my $granted = join "\n", strings($parsed->{"$top/modules/security/main.tf"});
is_deeply([ sort $granted =~ m{\b(roles/[\w.]+)}g ],
    [ sort qw(roles/aiplatform.user roles/logging.logWriter
              roles/monitoring.metricWriter roles/storage.objectViewer
              roles/secretmanager.secretAccessor) ], '  with five roles');
my @iam = grep { /_iam_/ } map { keys %{$_->{resource} || {}} }
                           values %$parsed;
is_deeply([ map { $_->[0] }
            grep { ($_->[1]{member} // '')
                   ne '${google_service_account.gateway.member}' }
            map { resources($_) } @iam ], [], '  and nobody else has any');


# -- what is beside it

my $startup = slurp("$top/$variables->{startup_script}{default}");
ok($startup, 'the startup script is there');
is_deeply([ sort grep { $startup !~ /\battribute \Q$_\E\b/ }
            grep { /^hybrid-/ } keys %$metadata ], [],
    '  and reads what the VM is given');
is_deeply([ sort grep { !exists $metadata->{$_} }
            $startup =~ /\(attribute (hybrid-[\w-]+)/g ], [],
    '  and is given what it reads');

my $nginx = slurp("$top/../nginx.conf");
for my $name (qw(gateway_port health_port)) {
    my $port = $variables->{$name}{default};
    like($nginx, qr/^\s*listen\s+$port\b/m, "nginx listens on $name");
}

my %file = map { $_ => 1 } $nginx =~ m{/etc/nginx/hybrid/(secrets/[\w.-]+)}g;
is_deeply([ sort grep { my $file = $_;
                        !grep { $_ eq $file } values %{$set->{secrets}} }
            keys %file ], [], "the example has nginx' secrets");


# -- as Terraform formats it

SKIP: {
    my ($tool) = grep { system("command -v $_ > /dev/null") == 0 }
                 qw(terraform tofu);
    skip('neither terraform nor tofu is here', 1) if !$tool;

    local $ENV{TF_CLI_CONFIG_FILE} = '/dev/null';
    my $said = `$tool fmt -check -recursive -diff \Q$top\E 2>&1`;
    is($?, 0, "$tool fmt has nothing to change") or diag($said);
}

done_testing;
