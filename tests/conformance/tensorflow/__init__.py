"""TensorFlow's behaviour, row by row: the same here, or different on purpose and then why.

The rows are facts about ``tf.variable_creator_scope`` and ``tf.Variable`` of TensorFlow 2.21, in
four groups: the creator chain, threads and tasks, keywords, methods. The tests are numbered like
the rows. A docstring that begins with "Differs:" says what TensorFlow does and what happens here
instead; every other docstring is a claim that holds in both.

What has no counterpart, and why:

====================================  ==============================================================
row                                   reason
====================================  ==============================================================
chain 3, priorities                   private in TensorFlow, for `tf.function` and strategies only
chain 12, keywords under a strategy   there are no strategies: ranks are processes, every rank
                                      creates, and the policies reach creators as they were written
threads, replica threads              the same: one rank is one process
threads, ``tf.Graph``, ``init_scope`` there are no graphs that own variables
threads, ``tf.function`` (5 rows)     a compiled function makes no parameters; modules are built in
                                      plain Python before, where scopes work as everywhere
keywords, variable_def, import_scope  protobufs of graphs
keywords, variable lifting            belongs to `tf.function`
keywords, a strategy's stricter enums the enum is checked in one place, with or without ranks
methods, ``use_locking``,             arguments of graph mode; a write is done when it returns
``read_value=False``
methods, ``.initializer``             belongs to graph mode
methods, ``==`` and hashing, repr     a parameter is a tensor, and behaves as torch's tensors do
====================================  ==============================================================
"""
