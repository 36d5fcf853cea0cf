cdef bytes scalar_message(object o)
