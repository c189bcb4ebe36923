"""The role ``feed``: users' lists over HTTP, and pushed to open pages the moment that they are on the topic.

=============  ==================================================================================
``role``       reads the topics, on a thread of its own
``store``      where the newest list of each user is kept: in memory, or (``redis_store``) in Redis
``shelf``      items and layers as answers need them: titles, who may be offered, what is similar
``serving``    a stored list as an answer: filtered, cut, or everybody's list for an unknown user
``hub``        who waits for whose list
``streams``    server-sent events
``watch``        what the live page shows beside lists
``ingest``     clicks and erasures on their way to Kafka
``rates``      how much one client may ask
``requests``     what a request says, checked
``answers``      the bodies of answers, beside lists
``config``       the limits
``problems``   errors as RFC 9457 has them
``openapi``    the description of all of it
``app``        the routes
``server``     uvicorn on a thread
=============  ==================================================================================
"""
