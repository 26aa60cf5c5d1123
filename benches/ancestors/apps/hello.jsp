<%@ page contentType="text/plain;charset=ISO-8859-1" session="false" trimDirectiveWhitespaces="true"
%>Hello from Hostler!
