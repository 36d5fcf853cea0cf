from libc.stdint cimport int64_t, uint32_t, uint64_t

from pyray.serialization._encoder cimport Encoder
from pyray.store._session cimport PrHandle, Session


cdef class ObjectRef:
    cdef PrHandle handle
    cdef uint32_t session  # serial number, in this process, of the session it belongs to


cdef Session session_now()
cdef Session open_session()
cdef uint32_t serial_now() noexcept
cdef ObjectRef new_ref(PrHandle handle)
cdef ObjectRef put_label(Session session, object blob, ObjectRef target)
cdef ObjectRef ref_to(Session session, uint32_t slot)
cdef uint32_t slot_of(object ref) except 0
cdef object encode_object(Session session, object value, uint32_t slot, bint failed)
cdef PrHandle write_object(Session session, Encoder e, list refs, uint32_t slot) except? 0
cdef object value_of(Session session, uint32_t slot, bint copy_on_write, int64_t deadline=*)
cdef object failure_of(Session session, uint32_t slot)
cdef int begin_collecting() except -1
cdef object end_collecting()
cdef int wait_for(Session session, const uint32_t *slots, size_t n, size_t needed,
                  int64_t deadline, bint any_failure) except -1
cdef int64_t deadline_of(object timeout) except? -2
cdef uint32_t waited_slot(object waitable) except 0
cdef void set_in_task(bint value) noexcept
cdef bint runs_task() noexcept
cdef uint32_t give_cpu(Session session) noexcept
cdef int wait_for_room(Session session, uint32_t task) except -1
cdef void take_cpu(Session session, uint32_t number) noexcept
cdef void end_task(Session session) noexcept
