"""Every setting of Strata, and the one place that reads the environment.

A setting ``kafka_bootstrap`` is the variable ``STRATA_KAFKA_BOOTSTRAP``, or the key ``kafka_bootstrap`` in the TOML
file that ``STRATA_CONFIG`` names; the variable wins. Each room defines the small structs that it needs; here they
are composed. One file a section:

=================  =============================================================
``kafka``          brokers, security, the consumer group, delivery
``topics``         names and shapes
``encoder``        the model and its queue
``users``          what is read of items and users, and what is kept
``lists``          what is offered
``learning``       layers, neighbours, ranker, the deep part
``privacy``        by which names users are stored, and for how long
``limits``         what is refused, and when a role stops
``feed``           HTTP for pages
``operations``     HTTP and logs
``composed``       all of them together, as the class :class:`Settings`
``reading``        how they are read, and what a wrong one says
=================  =============================================================
"""

from ops.settings.composed import FILE, PREFIX, Settings
from ops.settings.reading import load

__all__ = ["FILE", "PREFIX", "Settings", "load"]
