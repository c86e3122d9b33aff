"""The service: one manager for many users, over HTTP. ``pilot serve`` starts it.

The way of a task::

    request ─► app (envelope checked) ─► store (row committed) ─► coordinator ─► manager ─► store (result) ─► request

1. A route of ``app.py`` checks who asks (`access.Access`) and the envelope, and makes a `store.NewTask`.
2. `service.Service.submit` gives it to the store. The answer waits until the row is on disk.
3. The coordinator (``coordinator.py``) takes rows from the store, in order, while there is room. It has each text
   parsed on a pilot, once for each content, and submits the circuits to the manager under keys made of the task's id.
4. When the manager's tasks are over, their results go to the store; then the coordinator forgets the task.

After a crash the rows without a result are taken again, under the same keys: nothing is lost, nothing runs twice.

Other interfaces are routers on the application that `app.create_app` makes. They need::

    service = request.app.state.service          # a Service
    user: User = Depends(current_user)           # pilot.service.access
    ids = await service.submit([NewTask(user=user.name, programs=(text,), format="originir", options={…})])
    view = await service.view(user, id)          # a TaskView: state, steps, error, QPU
    result = await service.result(user, id)      # what results.py makes, one for each program
    raise Problem(422, "…", field="shots")       # pilot.service.problems
"""
