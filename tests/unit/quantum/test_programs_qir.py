"""QIR: typed and opaque pointers, the base profile and what is beyond it."""

import pytest
from qiskit import QuantumCircuit
from qiskit.quantum_info import Operator

from pilot.errors import DescriptionError, ProgramError
from pilot.quantum import Program, load
from pilot.quantum.aer import run_circuit

TYPED = """%Qubit = type opaque
%Result = type opaque

define void @main() #0 {
entry:
  br label %next
next:
  call void @__quantum__rt__initialize(i8* null)
  call void @__quantum__qis__h__body(%Qubit* null)
  call void @__quantum__qis__cnot__body(%Qubit* null, %Qubit* inttoptr (i64 1 to %Qubit*))
  call void @__quantum__qis__rz__body(double 0.5, %Qubit* inttoptr (i64 1 to %Qubit*))
  call void @__quantum__qis__s__adj(%Qubit* null)
  call void @__quantum__qis__mz__body(%Qubit* null, %Result* inttoptr (i64 1 to %Result*))
  call void @__quantum__rt__result_record_output(%Result* null, i8* null)
  ret void
}

declare void @__quantum__rt__initialize(i8*)
declare void @__quantum__qis__h__body(%Qubit*)
declare void @__quantum__qis__cnot__body(%Qubit*, %Qubit*)
declare void @__quantum__qis__rz__body(double, %Qubit*)
declare void @__quantum__qis__s__adj(%Qubit*)
declare void @__quantum__qis__mz__body(%Qubit*, %Result* writeonly) #1
declare i1 @__quantum__qis__read_result__body(%Result*)
declare void @__quantum__rt__result_record_output(%Result*, i8*)

attributes #0 = { "entry_point" "qir_profiles"="base_profile" "required_num_qubits"="3" "required_num_results"="2" }
attributes #1 = { "irreversible" }
!llvm.module.flags = !{!0, !1}
!0 = !{i32 1, !"dynamic_qubit_management", i1 false}
!1 = !{i32 1, !"dynamic_result_management", i1 false}
"""
OPAQUE = "\n".join(
    line.replace("%Qubit*", "ptr").replace("%Result*", "ptr").replace("i8*", "ptr")
    for line in TYPED.split("\n")
    if not line.endswith("type opaque")
)


@pytest.mark.parametrize("text", [TYPED, OPAQUE], ids=["typed", "opaque"])
def test_pointers(text):
    circuit = load(text).to_qiskit()
    names = [each.operation.name for each in circuit.data]
    assert names == ["h", "cx", "rz", "sdg", "measure"]
    assert (circuit.num_qubits, circuit.num_clbits) == (3, 2)
    assert [circuit.find_bit(bit).index for bit in circuit.data[1].qubits] == [0, 1]
    assert circuit.data[2].operation.params == [0.5]
    assert circuit.find_bit(circuit.data[4].clbits[0]).index == 1


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        (
            "inttoptr (i64 1 to %Qubit*))\n  call void @__quantum__qis__rz",
            "inttoptr (i64 zz to %Qubit*))\n  call void @__quantum__qis__rz",
            10,
            "value token",
        ),
        ("  ret void\n", "", 15, "instruction opcode"),
        ("  br label %next\n", "  br i1 true, label %next, label %next\n", 6, "adaptive profile's branch"),
        (
            "  ret void",
            "  %r = call i1 @__quantum__qis__read_result__body(%Result* null)\n  ret void",
            15,
            "reading of results",
        ),
        ("  ret void", "  br label %next", 6, "loops"),
        ('"entry_point" ', "", 31, "0 entry points"),
        ('qubit_management", i1 false', 'qubit_management", i1 true', 30, "dynamic_qubit_management"),
        ("h__body", "wiggle__body", 9, "__quantum__qis__wiggle__body is unknown"),
        ("(%Qubit* null, %Qubit* inttoptr (i64 1", "(%Qubit* null, %Qubit* inttoptr (i64 0", 10, "twice"),
        ("i64 1 to %Qubit", "i64 7 to %Qubit", 27, "number 7 is used"),
        ("i64 1 to %Qubit", "i64 700000 to %Qubit", 10, "below 100000"),
        ("double 0.5", "double 0x7FF0000000000000", 11, "finite"),
    ],
)
def test_what_is_wrong_or_beyond_the_base_profile(old, new, line, words):
    assert old in TYPED
    with pytest.raises(ProgramError) as caught:
        load(TYPED.replace(old, new), "qir")
    assert words in str(caught.value)
    assert caught.value.line == line, str(caught.value)


def test_written_as_pyqir_writes_it():
    circuit = QuantumCircuit(2, 2)
    circuit.u(0.1, 0.2, 0.3, 0)
    circuit.swap(0, 1)
    again = load(Program(circuit).dumps("qir")).to_qiskit()
    assert Operator(again.remove_final_measurements(inplace=False)).equiv(
        Operator(circuit.remove_final_measurements(inplace=False))
    )
    circuit.x(0)
    circuit.measure([0, 1], [1, 0])
    first, second = (
        run_circuit(each, None, 1).get_counts() for each in (circuit, load(Program(circuit).dumps("qir")).to_qiskit())
    )
    assert first == pytest.approx(second)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(0)
    with pytest.raises(DescriptionError, match="'if_else'"):
        Program(circuit).dumps("qir")
