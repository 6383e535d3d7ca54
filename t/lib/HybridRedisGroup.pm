package HybridRedisGroup;

# Several real Redis processes that belong together: a master with replicas
# and sentinels, or a cluster.
#
#   my $set = sentinels(replicas => 2, sentinels => 3);   # "main"
#   $set->master;                       # the one of @{ $set->{nodes} }
#   my $set = cluster(masters => 3, replicas => 1);
#   $set->owner('key');                 # the node that has the key's slot
#   $set->move($slot, $from, $to);      # live, with its keys

use strict;
use warnings;

use Exporter 'import';
use HybridRedis;
use IO::Socket::INET;

our @EXPORT = qw(sentinels cluster);


# -- a master, replicas and sentinels

sub sentinels {
    my (%o) = @_;
    my $self = bless { name => 'main', %o }, 'HybridRedisGroup::Sentinels';
    my @args = ('--repl-diskless-sync-delay', 0, '--repl-diskless-sync',
        'yes', @{ $o{args} || [] });

    $self->{nodes} = [ my $first = redis(name => 'node0', args => \@args,
        login => $o{login}) ];

    for my $n (1 .. $o{replicas} // 1) {
        push @{ $self->{nodes} }, redis(name => "node$n", login => $o{login},
            args => [ @args, '--replicaof', '127.0.0.1', $first->{port} ]);
    }

    $self->{sentinels} = [ map {
        sentinel("sentinel$_", $first->{port}, %o) } 1 .. $o{sentinels} // 3 ];

    wait_until(sub { $self->settled }, 60)
        or die 'the sentinels do not agree';
    return $self;
}

sub sentinel {
    my ($name, $port, %o) = @_;
    my $quorum = $o{quorum} // 2;
    my $more = $o{sentinel_conf} // '';

    for (1 .. 5) {
        my $self = bless { name => $name, port => free_port(),
            home => dir() . "/$name", login => $o{sentinel_login} },
            'HybridRedisGroup::Sentinel';

        mkdir $self->{home};
        spew("$self->{home}/conf", <<"END");
port $self->{port}
bind 127.0.0.1
dir $self->{home}
logfile $self->{home}/log
sentinel monitor main 127.0.0.1 $port $quorum
sentinel down-after-milliseconds main 1000
sentinel failover-timeout main 6000
$more
END
        return $self if $self->start;
    }
    die "$name does not start:\n" . slurp(dir() . "/$name/log");
}


package HybridRedisGroup::Sentinel;

our @ISA = ('HybridRedis::Redis');

sub start {
    my ($self) = @_;
    $self->{pid} = HybridRedis::spawn("redis $self->{name}",
        "$self->{home}/output", 'redis-server', "$self->{home}/conf",
        '--sentinel');
    return HybridRedis::wait_until(sub {
        my $pong = eval { $self->command('PING') } // '';
        return $pong eq 'PONG' || $pong =~ /NOAUTH/;
    });
}

# "flags", "num-other-sentinels"... of the master
sub about {
    my ($self) = @_;
    my $fields = eval { $self->command('SENTINEL', 'MASTER', 'main') };
    return ref $fields ? { @$fields } : {};
}


package HybridRedisGroup::Sentinels;

# all of them know of each other and of all replicas
sub settled {
    my ($self) = @_;
    my $others = @{ $self->{sentinels} } - 1;
    my $replicas = @{ $self->{nodes} } - 1;

    for my $sentinel (@{ $self->{sentinels} }) {
        my $about = $sentinel->about;
        return 0 if ($about->{flags} // '') ne 'master'
            || $about->{'num-other-sentinels'} != $others
            || $about->{'num-slaves'} != $replicas;
    }

    # one that comes back takes itself for a master for some seconds

    my @lines = grep { $_ } map { role($_) } @{ $self->{nodes} };
    my @slaves = grep { $_->[0] eq 'slave' && $_->[3] eq 'connected' } @lines;
    return @slaves == $replicas && @lines == $replicas + 1 && $self->master;
}

sub role {
    my ($node) = @_;
    my $role = eval { $node->command('ROLE') };
    return ref $role ? $role : undef;
}

sub is_master {
    my ($self, $node) = @_;
    return (role($node) // [''])->[0] eq 'master';
}

# that all sentinels name
sub master {
    my ($self) = @_;
    my %port = map { ($_->about->{port} // 0) => 1 } @{ $self->{sentinels} };
    my ($master) = grep { $port{ $_->{port} } } @{ $self->{nodes} };
    return keys %port == 1 && $master && $self->is_master($master)
        ? $master : undef;
}

sub stop {
    my ($self) = @_;
    $_->stop('KILL') for @{ $self->{sentinels} }, @{ $self->{nodes} };
    return;
}


# -- a cluster

package HybridRedisGroup;

# the bus of a cluster has a port 10000 above
sub two_ports {
    for (1 .. 1000) {
        my $port = 10000 + int rand 12000;
        my @probes = grep { $_ } map { IO::Socket::INET->new(Listen => 1,
            Proto => 'tcp', LocalAddr => '127.0.0.1', LocalPort => $_) }
            $port, $port + 10000;
        return $port if @probes == 2;
    }
    die 'no free ports';
}

sub cluster {
    my (%o) = @_;
    my $self = bless { %o }, 'HybridRedisGroup::Cluster';
    my $masters = $o{masters} // 3;
    my @args = ('--cluster-enabled', 'yes', '--cluster-config-file',
        'nodes.conf', '--cluster-node-timeout', $o{timeout} // 2000,
        '--cluster-require-full-coverage', 'no', '--repl-diskless-sync-delay',
        0, '--cluster-replica-validity-factor', 0, @{ $o{args} || [] });

    my @nodes = map { redis(name => "c$_", args => \@args, ports =>
        \&two_ports, login => $o{login}) }
        1 .. $masters * (1 + ($o{replicas} // 0));

    $self->{nodes} = \@nodes;
    $self->{id}{$_} = $_->command('CLUSTER', 'MYID') for @nodes;

    my $from = 0;
    for my $n (0 .. $masters - 1) {
        my $to = int 16384 * ($n + 1) / $masters;
        $nodes[$n]->command('CLUSTER', 'ADDSLOTS', $from .. $to - 1);
        $nodes[$n]->command('CLUSTER', 'SET-CONFIG-EPOCH', $n + 1);
        $from = $to;
    }

    $nodes[0]->command('CLUSTER', 'MEET', '127.0.0.1', $_->{port})
        for @nodes[1 .. $#nodes];

    wait_until(sub { !grep { $_->command('CLUSTER', 'INFO')
        !~ /cluster_known_nodes:${\ scalar @nodes}\r/ } @nodes }, 60)
        or die 'the nodes do not meet';

    for my $n ($masters .. $#nodes) {
        my $master = $nodes[$n % $masters];
        wait_until(sub { $nodes[$n]->command('CLUSTER', 'REPLICATE',
            $self->{id}{$master}) eq 'OK' }, 60) or die 'no replica';
    }

    wait_until(sub { $self->settled }, 60) or die 'no cluster';
    return $self;
}


package HybridRedisGroup::Cluster;

sub settled {
    my ($self) = @_;
    for my $node (@{ $self->{nodes} }) {
        my $info = eval { $node->command('CLUSTER', 'INFO') } // '';
        return 0 if $info !~ /cluster_state:ok/
            || $info !~ /cluster_slots_ok:16384/;
        my $role = $node->command('ROLE');
        return 0 if $role->[0] eq 'slave' && $role->[3] ne 'connected';
    }
    return 1;
}

sub slot {
    my ($self, $key) = @_;
    return $self->{nodes}[0]->command('CLUSTER', 'KEYSLOT', $key);
}

# as one of those that run says it
sub owner {
    my ($self, $key, $asked) = @_;
    my $slot = ($asked // $self->{nodes}[0])->command('CLUSTER', 'KEYSLOT',
        $key);

    for my $range (@{ ($asked // $self->{nodes}[0])->command('CLUSTER',
        'SLOTS') })
    {
        next if $slot < $range->[0] || $slot > $range->[1];
        my ($node) = grep { $_->{port} == $range->[2][1] }
            @{ $self->{nodes} };
        return $node;
    }
    return;
}

# of a key, wherever it is
sub command {
    my ($self, $name, $key, @args) = @_;
    return $self->owner($key)->command($name, $key, @args);
}

sub masters {
    my ($self) = @_;
    return grep { ($_->command('ROLE') // [''])->[0] eq 'master' }
        @{ $self->{nodes} };
}

# as "redis-cli --cluster reshard" does it
sub move {
    my ($self, $slot, $from, $to, $pause) = @_;
    my ($source, $target) = @{ $self->{id} }{ $from, $to };
    my $moved = 0;

    $to->command('CLUSTER', 'SETSLOT', $slot, 'IMPORTING', $source);
    $from->command('CLUSTER', 'SETSLOT', $slot, 'MIGRATING', $target);
    $pause->() if $pause;

    for (;;) {
        my $keys = $from->command('CLUSTER', 'GETKEYSINSLOT', $slot, 10);
        last if !@$keys;
        $moved += @$keys;
        my $said = $from->command('MIGRATE', '127.0.0.1', $to->{port}, '', 0,
            5000, 'KEYS', @$keys);
        die "MIGRATE: $said" if $said !~ /^(?:OK|NOKEY)/;
    }

    $pause->() if $pause;

    for my $node ($to, $from, $self->masters) {
        my $said = $node->command('CLUSTER', 'SETSLOT', $slot, 'NODE',
            $target);
        die "SETSLOT: $said" if $said ne 'OK';
    }
    return $moved;
}

1;
