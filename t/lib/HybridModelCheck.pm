package HybridModelCheck;

# What must hold of a schedule.  When a request was admitted is not known, but
# that it was after its client began to send it and before its backend had it:
# those that are wholly within a span of time were admitted in it.
#
# In any span t, of what Redis has admitted:
#
#   burst + rate x t                from the first request on
#   + a burst                       for each time that Redis has lost its data
#   + what was leased before        from any later start on; see leased()
#   + what was given back in it     of tokens, as the request has used less
#
# and of what one gateway has admitted, by whatever account, burst + rate x t.
# Tokens that a request has used beyond what it has reserved count as soon as
# they must have been told.  At a time there are never more than "concurrency",
# in a gateway and, while Redis keeps its data, in all.

use strict;
use warnings;

use Exporter 'import';
use HybridRedis;
use List::Util qw(min max sum0);

our @EXPORT = qw(check);

# seconds that clocks may differ: nginx's is the time its loop has last looked
my $TICK = 0.03;

# seconds after which a debt is told, and an idle credit gone
my ($TOLD, $IDLE) = (1.5, 2.2);


sub check {
    my ($s) = @_;
    my @all = admitted_in($s);
    my @bad;

    $s->{sent} = @{ $s->{rows} };
    $s->{admitted} = @all;
    $s->{without} = grep { $_->{mark} } @all;

    for my $kind (qw(rate tokens)) {
        my ($rate, $burst) = @$s{ $kind eq 'rate' ? qw(rate burst)
            : qw(speed most) };
        next if !$rate;
        my @of = map { { %$_, weight => $kind eq 'rate' ? 1 : $_->{need} } }
            @all;

        # those of whom it is not known are nobody's

        my @redis = grep { $s->{loss} eq 'closed' || $_->{mark} eq '' } @of;
        push @bad, spans($s, "$kind, by Redis", $kind, $rate, $burst,
            \@redis, 1);

        my %by;
        push @{ $by{"$_->{gateway}.$_->{life}"} }, $_ for @of;
        push @bad, spans($s, "$kind, $_", $kind, $rate, $burst, $by{$_}, 0)
            for sort keys %by;
    }

    push @bad, at_a_time($s, @all) if $s->{slots};
    return @bad;
}

# from the events of the backend and what the clients have seen
sub admitted_in {
    my ($s) = @_;
    my %row = map { $_->{tag} => $_ } @{ $s->{rows} };
    my (%by, @all);

    for my $event (@{ $s->{events} }) {
        my ($time, $what, $id, $name, $pid) = @$event;
        my $row = $row{$id} or next;
        my $dead = $s->{dead}{"$name $pid"};

        if ($what eq 'E') {
            $by{$id}{end} = min($time, $dead // $time) if $by{$id};
            next;
        }

        # one that was sent by a worker before it was killed

        my $one = { id => $id, from => $row->{start}, to => $time, gateway =>
            $name, dead => $dead, life => scalar(grep { !$_->[2]
            && $_->[1] eq $name && $_->[0] < min($time, $dead // $time) }
            @{ $s->{kills} }), mark => $row->{status} ? $row->{limits} // ''
            : 'unknown', told => $row->{status} eq '200'
            && !$row->{error} && !$dead, %{ $s->{request}{$id} } };
        $one->{mark} = '' if $one->{mark} eq '-';
        $by{$id} = $one;
        push @all, $one;
    }

    $_->{end} = min($_->{end} // 1e12, $_->{dead} // 1e12) for @all;
    return @all;
}


# the worst span of each start
sub spans {
    my ($s, $what, $kind, $rate, $burst, $requests, $redis) = @_;
    my @requests = sort { $a->{from} <=> $b->{from} } @$requests;
    return if !@requests;
    my (@events, @bad);

    for my $one (@requests) {
        push @events, [ $one->{to}, $one->{weight}, $one->{from} ];
        next if $kind eq 'rate';

        # later than its end it is given back, or told: the latter for sure
        # if nothing is in its way

        my $less = $one->{weight} - ($one->{told} ? $one->{used} : 0);
        if ($less > 0) {
            push @events, [ $one->{end}, -$less, -1, $one->{end} + 4 ]
                if $one->{end} < 1e12;
        } elsif ($one->{told} && !grep { $_->[1] > $one->{end} - 0.5
            && $_->[0] < $one->{end} + $TOLD } @{ $s->{faults} })
        {
            push @events, [ $one->{end} + $TOLD, -$less, $one->{from} ];
        }
    }

    if ($redis) {
        push @events, [ $_->[0], -$burst, -1, $_->[1] ] for @{ $s->{lost} };
    }

    @events = sort { $a->[0] <=> $b->[0] || $a->[1] <=> $b->[1] } @events;

    my $first = $requests[0]{from};
    my ($worst, $top) = (-1e12, 0);

    for my $start (@requests) {
        my $from = $start->{from};
        my $before = $redis && $from > $first
            ? leased($s, $kind, $rate, $burst, $from, $requests) : 0;
        my ($sum, $over, $at) = (0, -1e12);

        for my $event (@events) {
            my ($time, $n, $since, $until) = @$event;
            next if $time < $from && $n > 0 || $since >= 0 && $since < $from
                || defined $until && $until < $from;
            $sum += $n;
            next if $n < 0;
            my $more = $sum - $burst - $rate * ($time - $from + $TICK);
            ($over, $at) = ($more, $time) if $more > $over;
        }

        $top = $over if $over > $top;
        if ($over - $before > $worst) {
            $worst = $over - $before;
            @bad = sprintf '%s: from %.3f to %.3f %.1f more than %d + %d x t'
                . ' (%.1f were leased)', $what, $from - $s->{begin},
                $at - $s->{begin}, $over, $burst, $rate, $before
                if $worst > 1e-6;
        }
    }

    my $figure = $redis ? 'redis' : 'own';
    $s->{"$kind $figure"} = max($s->{"$kind $figure"} // 0, $top / $burst);
    return @bad;
}

# what gateways may have of it, from before: batches, and what was for those
# that have left, or were refused by another limit
sub leased {
    my ($s, $kind, $rate, $burst, $from, $admitted) = @_;
    my $most = $kind eq 'rate' ? min(0.1 * $rate, ($burst + 1) / 2)
        : $burst / 20;
    $most = $most < 2 ? 0 : int $most;

    my %done = map { $_->{id} => 1 } @$admitted;
    my $left = sum0(map { $kind eq 'rate' ? 1 : $s->{request}{ $_->{tag} }{need}
        } grep { $_->{start} <= $from && $_->{end} > $from - $IDLE
        && (!$done{ $_->{tag} } || $_->{error}) } @{ $s->{rows} });

    return min($s->{gateways} * $burst,
        $s->{gateways} * ($s->{workers} + 1) * $most + $left);
}


sub at_a_time {
    my ($s, @all) = @_;
    my @bad = most($s, 'in all', $s->{slots} * (@{ $s->{lost} }
        ? $s->{gateways} : 1), @all);

    # those of a gateway that decides alone come on top

    @bad = () if $s->{loss} ne 'closed' && (@{ $s->{away} }
        || @{ $s->{lost} } || grep { $_->{mark} } @all);

    my %by;
    push @{ $by{"$_->{gateway}.$_->{life}"} }, $_ for @all;
    push @bad, most($s, "in $_", $s->{slots}, @{ $by{$_} }) for sort keys %by;
    return @bad;
}

sub most {
    my ($s, $what, $limit, @all) = @_;
    my ($n, $top, $at) = (0, 0, 0);

    for my $event (sort { $a->[0] <=> $b->[0] || $a->[1] <=> $b->[1] }
        map { $_->{end} > $_->{to} ? ([ $_->{to}, 1 ], [ $_->{end}, -1 ])
        : () } @all)
    {
        $n += $event->[1];
        ($top, $at) = ($n, $event->[0]) if $n > $top;
    }

    $s->{slots_top} = max($s->{slots_top} // 0, $top / $s->{slots});
    return $top <= $limit ? () : sprintf '%s: %d at a time at %.3f, at most '
        . '%d', $what, $top, $at - $s->{begin}, $limit;
}

1;
